{{- define "weir.labels" -}}
app.kubernetes.io/name: weir
app.kubernetes.io/component: {{ . }}
{{- end -}}
