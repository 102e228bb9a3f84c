"""Fine-tuning: an open_clip model and labelled images become a model of one's own, a folder that `export` serves.

    data ─────> batches ─┐                        ┌─> sweep ──> report
                         ├─> training ──> weights ─┤     └─ the chosen mixture ─┐
    variant ──> network ─┘      └─ state           └────────────────────────────┴─> folder ──> export

Contrastive fine-tuning on class prompts, "FLYP" (Goyal et al., "Finetune like you pretrain", CVPR 2023), then weights
between the start and the result, "WiSE-FT" (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022).
Models, losses, schedule, augmentation and classifiers are open_clip's own.
"""
