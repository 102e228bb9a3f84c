{{/* Names are cut so that the longest, of an export Job with a model's name of 16, has 63 characters. */}}
{{- define "tritonclip.fullname" -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) | trunc 30 | trimSuffix "-" }}
{{- end }}

{{/* The name of a model's objects: (list $ "triton" $model). */}}
{{- define "tritonclip.modelname" -}}
{{- printf "%s-%s-%s" (include "tritonclip.fullname" (index . 0)) (index . 1) (index . 2).name }}
{{- end }}

{{/* What pods are chosen by: (list $ "gateway"), or (list $ "triton" $model). */}}
{{- define "tritonclip.selector" -}}
app.kubernetes.io/name: {{ (index . 0).Chart.Name }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- if gt (len .) 2 }}
tritonclip/model: {{ (index . 2).name | quote }}
{{- end }}
{{- end }}

{{- define "tritonclip.labels" -}}
{{ include "tritonclip.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version }}
{{- end }}

{{/* An image of ours: (list $ "gateway"). */}}
{{- define "tritonclip.image" -}}
{{- $image := (index . 0).Values.image }}
{{- $tag := $image.tag | default (index . 0).Chart.AppVersion }}
{{- with $image.registry }}{{ trimSuffix "/" . }}/{{ end }}tritonclip/{{ index . 1 }}:{{ $tag }}
{{- if eq (index . 1) "triton" }}-{{ $image.tritonRelease }}{{ end }}
{{- end }}

{{/* A model's settings of Triton: those of all, with its own in their places, as YAML. */}}
{{- define "tritonclip.settings" -}}
{{- $own := (index . 1).triton | default dict }}
{{- mustMergeOverwrite (deepCopy (index . 0).Values.triton) (deepCopy $own) | toYaml }}
{{- end }}

{{- define "tritonclip.keys" -}}
{{- .Values.gateway.keysSecret | default (printf "%s-keys" (include "tritonclip.fullname" .)) }}
{{- end }}

{{- define "tritonclip.claim" -}}
{{- .Values.storage.existingClaim | default (printf "%s-models" (include "tritonclip.fullname" .)) }}
{{- end }}

{{/* What a model's vectors depend on, as far as the values say; empty where it is pulled. */}}
{{- define "tritonclip.weights" -}}
{{- with .variant }}{{ prepend ($.exportArgs | default list) . | join " " }}{{ end }}
{{- end }}

{{/* What an export makes, in short: another image, variant or option makes another edition. */}}
{{- define "tritonclip.edition" -}}
{{- $root := index . 0 }}
{{- $model := index . 1 }}
{{- $does := list (include "tritonclip.image" (list $root "export")) $model.variant ($model.exportArgs | default list) }}
{{- $does | toJson | sha256sum | trunc 8 }}
{{- end }}

{{/* What the compose file calls hardened, of a pod. Variables for services might be taken for settings of ours. */}}
{{- define "tritonclip.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 1000
  fsGroup: 1000
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: { type: RuntimeDefault }
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{/* The same, of a container. */}}
{{- define "tritonclip.container" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{/* The environment of what sends its spans to a collector. */}}
{{- define "tritonclip.traced" -}}
{{- with .Values.tracing.endpoint }}
- { name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }} }
{{- end }}
{{- end }}

{{/* Of containers that only wait or write a mark, so that quotas let them in. */}}
{{- define "tritonclip.little" -}}
requests: { cpu: 10m, memory: 32Mi }
limits: { memory: 64Mi }
{{- end }}

{{/* Pods of one kind on different nodes, and in different zones, as far as there are any. */}}
{{- define "tritonclip.spread" -}}
{{- $labels := include "tritonclip.selector" . }}
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- topologyKey: {{ . }}
  maxSkew: 1
  whenUnsatisfiable: ScheduleAnyway
  matchLabelKeys: [pod-template-hash]
  labelSelector:
    matchLabels:
      {{- $labels | nindent 6 }}
{{- end }}
{{- end }}
