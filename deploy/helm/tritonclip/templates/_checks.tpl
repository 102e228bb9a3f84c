{{/* What the schema cannot say. Each error names the value and the reason. */}}
{{- define "tritonclip.checks" -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" (include "tritonclip.fullname" .)) }}
{{- fail (printf "the release's name %s: a Service's name begins with a letter and has no dots" .Release.Name) }}
{{- end }}
{{- $names := list }}
{{- range .Values.models }}
{{- if has .name $names }}
{{- fail (printf "models: two are named %s" .name) }}
{{- end }}
{{- $names = append $names .name }}
{{- include "tritonclip.checkWeights" (list $ .) }}
{{- $scaling := (include "tritonclip.settings" (list $ .) | fromYaml).autoscaling }}
{{- if ne $scaling.engine "none" }}
{{- if not $.Values.monitoring.podMonitor }}
{{- fail (printf "models: %s is scaled by metrics, by labels that the PodMonitor gives them: set monitoring.podMonitor" .name) }}
{{- end }}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) }}
{{- fail (printf "models: %s has autoscaling.minReplicas above autoscaling.maxReplicas" .name) }}
{{- end }}
{{- if and (eq $scaling.engine "hpa") (eq (int $scaling.minReplicas) 0) }}
{{- fail (printf "models: %s has autoscaling.minReplicas 0, which only the engine keda can do" .name) }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.gateway.autoscaling }}
{{- if gt (int .minReplicas) (int .maxReplicas) }}
{{- fail "gateway: autoscaling.minReplicas is above autoscaling.maxReplicas" }}
{{- end }}
{{- end }}
{{- if and .Values.monitoring.podMonitor .Values.networkPolicy.enabled (not .Values.networkPolicy.metrics) }}
{{- fail "networkPolicy.metrics lets nobody in, so that what monitoring.podMonitor asks for cannot be read: name your Prometheus there" }}
{{- end }}
{{- end }}

{{/* During a rollout pods of both editions answer side by side, and what changes vectors must not be mixed. */}}
{{- define "tritonclip.checkWeights" -}}
{{- $root := index . 0 }}
{{- $model := index . 1 }}
{{- $name := include "tritonclip.modelname" (list $root "triton" $model) }}
{{- $running := lookup "apps/v1" "Deployment" $root.Release.Namespace $name }}
{{- with dig "metadata" "annotations" "tritonclip/weights" "" $running }}
{{- if ne . (include "tritonclip.weights" $model) }}
{{- fail (printf "models: %s serves %s, and vectors of different weights must not be mixed: add the others as a model of another name" $model.name .) }}
{{- end }}
{{- end }}
{{- end }}
