{{/* The gateway's pod. */}}

{{- define "gateway.probe" -}}
httpGet:
  path: {{ index . 1 }}
  port: http
  scheme: {{ ternary "HTTPS" "HTTP" (ne (index . 0).Values.http.tls.existingSecret "") }}
{{- end }}

{{- define "gateway.pod" -}}
metadata:
  labels:
    {{- include "gateway.labels" (list . "gateway") | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    checksum/settings: {{ printf "%s\n%s" (include "gateway.settings" .) (include "gateway.roster" .) | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false  # a Service called gw would set GW_PORT, and with it the gateway's port
  terminationGracePeriodSeconds: {{ int .Values.terminationGracePeriodSeconds }}
  securityContext:
    {{- include "gateway.podSecurity" . | nindent 4 }}
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if gt (int .Values.replicas) 1 }}
  topologySpreadConstraints:
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "gateway.selector" $ | nindent 10 }}
          app.kubernetes.io/component: gateway
    {{- end }}
  {{- end }}
  initContainers:
    - name: keep-log
      image: {{ include "gateway.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command:
        - sh
        - -ec
        - |
          {{- include "gateway.keepLog" . | nindent 10 }}
      env:
        {{- include "gateway.logName" . | nindent 8 }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      securityContext:
        {{- include "gateway.containerSecurity" . | nindent 8 }}
      volumeMounts:
        - {name: data, mountPath: /var/lib/lantai}
  containers:
    - name: gateway
      image: {{ include "gateway.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command: [lantai-gateway, run, --config, /etc/lantai/settings/gateway.toml]
      env:
        {{- include "gateway.logName" . | nindent 8 }}
        {{- with include "gateway.environment" . | trim }}
        {{- . | nindent 8 }}
        {{- end }}
      ports:
        - {name: http, containerPort: {{ int .Values.http.port }}, protocol: TCP}
        {{- if .Values.link.enabled }}
        - {name: link, containerPort: {{ int .Values.link.port }}, protocol: TCP}
        {{- end }}
      startupProbe:  # two minutes: the first start on SQLite makes the tables
        {{- include "gateway.probe" (list . "/readyz") | nindent 8 }}
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 60
      readinessProbe:
        {{- include "gateway.probe" (list . "/readyz") | nindent 8 }}
        periodSeconds: 5
        timeoutSeconds: 2
        failureThreshold: 2
      livenessProbe:
        {{- include "gateway.probe" (list . "/livez") | nindent 8 }}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 3
      {{- if .Values.preStopSeconds }}
      lifecycle:
        preStop:
          exec:
            command: [sleep, {{ int .Values.preStopSeconds | quote }}]
      {{- end }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      securityContext:
        {{- include "gateway.containerSecurity" . | nindent 8 }}
      volumeMounts:
        - {name: settings, mountPath: /etc/lantai/settings, readOnly: true}
        - {name: certificate, mountPath: /etc/lantai/certificate, readOnly: true}
        - {name: data, mountPath: /var/lib/lantai}
        - {name: tmp, mountPath: /tmp}
        {{- if .Values.signingKey.existingSecret }}
        - {name: signing-key, mountPath: /var/lib/lantai/signing-key.pem, subPath: signing-key.pem, readOnly: true}
        {{- end }}
        {{- if .Values.trustList.existingConfigMap }}
        - {name: trust, mountPath: /etc/lantai/trust, readOnly: true}
        {{- end }}
        {{- if .Values.stamps.authority }}
        - {name: stamps, mountPath: /etc/lantai/stamps, readOnly: true}
        {{- end }}
        {{- if .Values.webhookKey.existingSecret }}
        - {name: webhook, mountPath: /etc/lantai/webhook, readOnly: true}
        {{- end }}
        {{- if .Values.clients.existingSecret }}
        - {name: clients, mountPath: /etc/lantai/clients, readOnly: true}
        {{- end }}
        {{- if .Values.roster.existingSecret }}
        - {name: roster, mountPath: /etc/lantai/roster, readOnly: true}
        {{- end }}
        {{- if .Values.http.tls.existingSecret }}
        - {name: http-tls, mountPath: /etc/lantai/http, readOnly: true}
        {{- end }}
        {{- if and (eq .Values.store.kind "postgresql") .Values.store.postgresql.caKey }}
        - {name: postgresql, mountPath: /etc/lantai/postgresql, readOnly: true}
        {{- end }}
  volumes:
    - name: settings
      configMap:
        name: {{ include "gateway.fullname" . }}
    - name: tmp
      emptyDir:
        sizeLimit: 256Mi
    {{- include "gateway.secretVolume" (list "certificate" .Values.certificate.existingSecret (list "ca.crt" "tls.crt" "tls.key")) | nindent 4 }}
    {{- with .Values.signingKey.existingSecret }}
    {{- include "gateway.secretVolume" (list "signing-key" . (list "signing-key.pem")) | nindent 4 }}
    {{- end }}
    {{- with .Values.trustList.existingConfigMap }}
    - name: trust
      configMap:
        name: {{ . }}
    {{- end }}
    {{- if .Values.stamps.authority }}
    - name: stamps
      configMap:
        name: {{ .Values.stamps.existingConfigMap }}
    {{- end }}
    {{- with .Values.webhookKey.existingSecret }}
    {{- include "gateway.secretVolume" (list "webhook" . (list "webhook-key.pem")) | nindent 4 }}
    {{- end }}
    {{- with .Values.clients.existingSecret }}
    {{- include "gateway.secretVolume" (list "clients" . (list "clients.toml")) | nindent 4 }}
    {{- end }}
    {{- with .Values.roster.existingSecret }}
    {{- include "gateway.secretVolume" (list "roster" . (list "roster.toml")) | nindent 4 }}
    {{- end }}
    {{- with .Values.http.tls.existingSecret }}
    {{- include "gateway.secretVolume" (list "http-tls" . (list "tls.crt" "tls.key")) | nindent 4 }}
    {{- end }}
    {{- if and (eq .Values.store.kind "postgresql") .Values.store.postgresql.caKey }}
    {{- include "gateway.postgresqlVolume" . | nindent 4 }}
    {{- end }}
{{- end }}

{{/* A volume of named keys of a Secret; a missing key keeps the pod from starting and says so. Argument: (list name secret keys). */}}
{{- define "gateway.secretVolume" -}}
- name: {{ index . 0 }}
  secret:
    secretName: {{ index . 1 }}
    defaultMode: 0440
    items:
      {{- range index . 2 }}
      - {key: {{ . }}, path: {{ . }}}
      {{- end }}
{{- end }}
