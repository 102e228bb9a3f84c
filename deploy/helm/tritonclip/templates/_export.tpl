{{/* The Job that publishes the served repository of a model, and marks which edition it is: Triton's pods wait for theirs. */}}
{{- define "tritonclip.exportspec" -}}
{{- $root := index . 0 }}
{{- $model := index . 1 -}}
backoffLimit: 3
template:
  metadata:
    labels:
      {{- include "tritonclip.selector" (list $root "export" $model) | nindent 6 }}
  spec:
    {{- include "tritonclip.pod" $root | nindent 4 }}
    restartPolicy: Never
    initContainers:
      - name: export
        image: {{ include "tritonclip.image" (list $root "export") }}
        args:
          - export
          - {{ $model.variant | quote }}
          - --host=gpu
          - --into=/models/{{ $model.name }}
          - --if-changed
          {{- range $model.exportArgs }}
          - {{ . | quote }}
          {{- end }}
        {{- if or $root.Values.export.environment $root.Values.export.tokenSecret }}
        env:
          {{- range $variable, $value := $root.Values.export.environment }}
          - name: {{ $variable | quote }}
            value: {{ $value | quote }}
          {{- end }}
          {{- with $root.Values.export.tokenSecret }}
          - name: HF_TOKEN
            valueFrom: { secretKeyRef: { name: {{ . | quote }}, key: token } }
          {{- end }}
        {{- end }}
        securityContext:
          {{- include "tritonclip.container" $root | nindent 10 }}
        resources:
          {{- toYaml $root.Values.export.resources | nindent 10 }}
        volumeMounts:
          - { name: models, mountPath: /models }
          - { name: hub, mountPath: /hub }
          - { name: tmp, mountPath: /tmp }
    containers:
      - name: mark
        image: {{ include "tritonclip.image" (list $root "export") }}
        command: [sh, -c, 'rm -f "$0".* && touch "$0.$1"', /models/.exported.{{ $model.name }}, {{ include "tritonclip.edition" (list $root $model) | quote }}]
        securityContext:
          {{- include "tritonclip.container" $root | nindent 10 }}
        resources:
          {{- include "tritonclip.little" $root | nindent 10 }}
        volumeMounts:
          - { name: models, mountPath: /models }
    volumes:
      - name: models
        persistentVolumeClaim: { claimName: {{ include "tritonclip.claim" $root | quote }} }
      - { name: hub, emptyDir: {} }
      - { name: tmp, emptyDir: {} }
{{- end }}
