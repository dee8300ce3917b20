{{/* Names, labels, settings and the pod of the gateway. */}}

{{- define "gateway.fullname" -}}
{{- if contains "lantai-gateway" .Release.Name -}}
{{- .Release.Name | trunc 44 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-lantai-gateway" .Release.Name | trunc 44 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* Labels that select; argument: root. */}}
{{- define "gateway.selector" -}}
app.kubernetes.io/name: lantai-gateway
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* All labels; argument: (list root component). */}}
{{- define "gateway.labels" -}}
{{- $root := index . 0 -}}
{{ include "gateway.selector" $root }}
app.kubernetes.io/component: {{ index . 1 }}
app.kubernetes.io/part-of: lantai
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "gateway.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{- end -}}
{{- end -}}
{{- end }}

{{/* Strings are written as JSON, which TOML reads as basic strings. */}}
{{- define "gateway.settings" -}}
# 由 Helm 生成 · made by Helm; keys are explained in docs/operations.md
host = "0.0.0.0"
port = {{ int .Values.http.port }}
{{- if .Values.http.tls.existingSecret }}
http_certificate = "/etc/lantai/http/tls.crt"
http_key = "/etc/lantai/http/tls.key"
{{- else }}
behind_tls_proxy = true
{{- end }}
data = "/var/lib/lantai"
{{- if eq .Values.store.kind "sqlite" }}
store = "sqlite"
{{- end }}
roster = {{ ternary "/etc/lantai/roster/roster.toml" "/etc/lantai/settings/roster.toml" (ne .Values.roster.existingSecret "") | quote }}
{{- if .Values.trustList.existingConfigMap }}
trust_list = "/etc/lantai/trust/trust.json"
{{- end }}
{{- if .Values.stamps.authority }}
stamp_authority = {{ .Values.stamps.authority | toJson }}
stamp_certificate = "/etc/lantai/stamps/roots.pem"
{{- end }}
{{- if .Values.webhookKey.existingSecret }}
webhook_key = "/etc/lantai/webhook/webhook-key.pem"
{{- end }}
{{- if .Values.clients.existingSecret }}
clients = "/etc/lantai/clients/clients.toml"
{{- end }}
{{- if .Values.link.enabled }}
link_listen = "0.0.0.0:{{ int .Values.link.port }}"
{{- end }}
federation = {{ .Values.federation | toJson }}
ca = "/etc/lantai/certificate/ca.crt"
certificate = "/etc/lantai/certificate/tls.crt"
key = "/etc/lantai/certificate/tls.key"
issuer = {{ .Values.issuer | toJson }}
audience = {{ .Values.audience | toJson }}
requests_per_minute = {{ int .Values.requestsPerMinute }}
connections = {{ int .Values.connections }}
connections_of_a_line = {{ int .Values.connectionsOfALine }}
session_age_s = {{ int .Values.sessionAgeSeconds }}
{{- with .Values.settings }}

{{ . | trim }}
{{- end }}
{{- end }}

{{- define "gateway.roster" -}}
# 由 Helm 生成 · made by Helm from roster.archives
epoch = {{ int .Values.roster.epoch }}
{{- range .Values.roster.archives }}

[[archive]]
code = {{ .code | toJson }}
name = {{ .name | toJson }}
{{- if .dialsIn }}
dials_in = true
{{- else }}
address = {{ .address | toJson }}
{{- end }}
{{- with .authority }}
authority = {{ int . }}
{{- end }}
{{- with .staleAfterSeconds }}
stale_after_s = {{ int . }}
{{- end }}
{{- with .deputy }}
deputy = {{ . | toJson }}
{{- end }}
{{- end }}
{{- end }}

{{- define "gateway.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ int .Values.runAs.user }}
runAsGroup: {{ int .Values.runAs.group }}
fsGroup: {{ int .Values.runAs.group }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "gateway.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Each replica keeps an evidence log of its own; under the same name however many there are, or scaling would begin a new one. */}}
{{- define "gateway.logName" -}}
- name: GW_LOG_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- end }}

{{/* A log that this chart began without the pod's name takes that name, with its keys; its origin stands in the key and stays.
     The log itself is moved last: whatever interrupts this, the next start goes on with it. */}}
{{- define "gateway.keepLog" -}}
cd /var/lib/lantai
if [ -e evidence.sqlite ] && [ ! -e "evidence-$GW_LOG_NAME.sqlite" ]; then
  for end in .key .key.sm-1.pem; do
    [ ! -e "log$end" ] || mv -n "log$end" "log-$GW_LOG_NAME$end"
  done
  for end in -wal -shm ""; do
    [ ! -e "evidence.sqlite$end" ] || mv -n "evidence.sqlite$end" "evidence-$GW_LOG_NAME.sqlite$end"
  done
fi
{{- end }}

{{/* The store's URL reaches the process only through the environment. */}}
{{- define "gateway.environment" -}}
{{- if eq .Values.store.kind "postgresql" }}
- name: GW_STORE
  valueFrom:
    secretKeyRef:
      name: {{ .Values.store.postgresql.existingSecret }}
      key: {{ .Values.store.postgresql.urlKey }}
{{- if .Values.store.postgresql.caKey }}
- name: PGSSLMODE
  value: verify-full
- name: PGSSLROOTCERT
  value: /etc/lantai/postgresql/ca.crt
{{- end }}
{{- end }}
{{- end }}

{{- define "gateway.postgresqlVolume" -}}
- name: postgresql
  secret:
    secretName: {{ .Values.store.postgresql.existingSecret }}
    defaultMode: 0440
    items:
      - {key: {{ .Values.store.postgresql.caKey }}, path: ca.crt}
{{- end }}

{{/* Peers of a NetworkPolicy rule; argument: list of {cidr}, {namespace}, {podLabels}. */}}
{{- define "gateway.peers" -}}
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
