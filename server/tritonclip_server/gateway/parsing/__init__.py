"""Request bodies to request models: compression, JSON, forms, validation."""
