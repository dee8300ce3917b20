{{/* Names, labels and settings of the node agent. */}}

{{- define "node.fullname" -}}
{{- if contains "lantai-node" .Release.Name -}}
{{- .Release.Name | trunc 44 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-lantai-node" .Release.Name | trunc 44 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* Labels that select; argument: root. */}}
{{- define "node.selector" -}}
app.kubernetes.io/name: lantai-node-agent
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "node.labels" -}}
{{ include "node.selector" . }}
app.kubernetes.io/component: node-agent
app.kubernetes.io/part-of: lantai
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
lantai/archive: {{ .Values.archive.code | quote }}
{{- end }}

{{- define "node.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{- end -}}
{{- end -}}
{{- end }}

{{/* Strings are written as JSON, which TOML reads as basic strings. */}}
{{- define "node.settings" -}}
# 由 Helm 生成 · made by Helm; keys are explained in docs/operations.md
archive = {{ .Values.archive.code | toJson }}
name = {{ .Values.archive.name | toJson }}
federation = {{ .Values.federation | toJson }}
ca = "/etc/lantai/certificate/ca.crt"
certificate = "/etc/lantai/certificate/tls.crt"
key = "/etc/lantai/certificate/tls.key"
gateways = {{ .Values.gateways | toJson }}
gateway_names = {{ .Values.gatewayNames | toJson }}
{{- if .Values.listen.enabled }}
listen = "0.0.0.0:{{ int .Values.listen.port }}"
{{- end }}
{{- if .Values.desk.enabled }}
desk_listen = "0.0.0.0:{{ int .Values.desk.port }}"
desk_certificate = "/etc/lantai/desk/tls.crt"
desk_key = "/etc/lantai/desk/tls.key"
{{- end }}
metrics_listen = "0.0.0.0:{{ int .Values.metricsPort }}"
health_listen = "0.0.0.0:{{ int .Values.probePort }}"
{{- with .Values.closedCategories }}
closed_categories = {{ . | toJson }}
{{- end }}
worker_queue = {{ int .Values.workerQueue }}
{{- with .Values.settings }}

{{ . | trim }}
{{- end }}
{{- end }}

{{/* Peers of a NetworkPolicy rule; argument: list of {cidr}, {namespace}, {podLabels}. */}}
{{- define "node.peers" -}}
{{- range . }}
{{- if .cidr }}
- ipBlock:
    cidr: {{ .cidr }}
{{- else }}
-
  {{- with .namespace }}
  namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: {{ . }}
  {{- end }}
  {{- with .podLabels }}
  podSelector:
    matchLabels:
      {{- toYaml . | nindent 6 }}
  {{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* One rule of a NetworkPolicy; argument: (list "from"|"to" ports peers). No peers = anyone on these ports. */}}
{{- define "node.rule" -}}
- ports:
    {{- range index . 1 }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  {{- if index . 2 }}
  {{ index . 0 }}:
    {{- include "node.peers" (index . 2) | nindent 4 }}
  {{- end }}
{{- end }}
