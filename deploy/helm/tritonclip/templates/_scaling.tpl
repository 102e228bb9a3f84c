{{/*
What Triton is scaled by: (list $ $model $settings), of its four stages. GPU use is not among it (docs/kubernetes.md).
The labels app_kubernetes_io_instance and tritonclip_model come from the PodMonitor.
*/}}
{{- define "tritonclip.matchers" -}}
namespace="{{ (index . 0).Release.Namespace }}", app_kubernetes_io_instance="{{ (index . 0).Release.Name }}", tritonclip_model="{{ (index . 1).name }}"
{{- end }}

{{- define "tritonclip.stages" -}}
model=~".*(image_preprocess|image_encoder|text_tokenize|text_encoder)"
{{- end }}

{{/* The longest wait of a stage over its work, and 0 where it is shorter than a queue's: (dict matchers milliseconds). */}}
{{- define "tritonclip.queueOverCompute" -}}
{{- $of := printf "{%s, %s}[1m]" .matchers (include "tritonclip.stages" .) -}}
max(
  sum by (model) (rate(nv_inference_queue_duration_us{{ $of }}))
  / clamp_min(sum by (model) (
    rate(nv_inference_compute_input_duration_us{{ $of }})
    + rate(nv_inference_compute_infer_duration_us{{ $of }})
    + rate(nv_inference_compute_output_duration_us{{ $of }})
  ), 1)
  * (
    sum by (model) (rate(nv_inference_queue_duration_us{{ $of }}))
    / clamp_min(sum by (model) (rate(nv_inference_request_success{{ $of }})), 0.001)
    > bool {{ mul .milliseconds 1000 }}
  )
)
{{- end }}

{{/* Requests that wait before a stage, in all pods. */}}
{{- define "tritonclip.pendingRequests" -}}
sum(nv_inference_pending_request_count{ {{- .matchers }}, {{ include "tritonclip.stages" . -}} })
{{- end }}

{{/* Up at once, by half as many again; down one pod in two minutes, as the signals say nothing of how many are too many. */}}
{{- define "tritonclip.behavior" -}}
scaleUp:
  stabilizationWindowSeconds: 0
  policies:
    - { type: Pods, value: 1, periodSeconds: 60 }
    - { type: Percent, value: 50, periodSeconds: 60 }
scaleDown:
  stabilizationWindowSeconds: 300
  policies:
    - { type: Pods, value: 1, periodSeconds: 120 }
{{- end }}
