{{- define "qt.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "qt.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "qt.labels" -}}
{{ include "qt.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: quantum-trader
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "qt.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}{{- end -}}
{{- end -}}
{{- end }}

{{- define "qt.registry" -}}
{{ .Files.Get "files/registry.json" }}
{{- end }}

{{- define "qt.kafka" -}}
{{- if .Values.kafka.bundled.enabled -}}{{ include "qt.fullname" . }}-kafka:9092{{- else -}}{{ .Values.kafka.bootstrap }}{{- end -}}
{{- end }}

{{- define "qt.clickhouse" -}}
{{- if .Values.clickhouse.bundled.enabled -}}http://{{ include "qt.fullname" . }}-clickhouse:8123{{- else -}}{{ .Values.clickhouse.url }}{{- end -}}
{{- end }}

{{/* Settings of the program, as environment: the chart's own first, then those of the values. */}}
{{- define "qt.config" -}}
QT_HOST: "0.0.0.0"
QT_PROBE_PORT: "18100"
QT_RUN_DIR: /var/lib/quantum
QT_MODEL_REGISTRY: /models
QT_KAFKA_BOOTSTRAP: {{ include "qt.kafka" . | quote }}
{{- if not .Values.kafka.bundled.enabled }}
QT_KAFKA_SECURITY: {{ .Values.kafka.security }}
{{- if hasPrefix "SASL" .Values.kafka.security }}
QT_KAFKA_MECHANISM: {{ .Values.kafka.mechanism }}
QT_KAFKA_USERNAME: {{ .Values.kafka.username | quote }}
{{- end }}
{{- if .Values.kafka.caSecret }}
QT_KAFKA_CA_FILE: /etc/kafka/ca.crt
{{- end }}
{{- end }}
{{- if not (and .Values.clickhouse.existingSecret (not .Values.clickhouse.bundled.enabled)) }}
QT_CLICKHOUSE_URL: {{ include "qt.clickhouse" . | quote }}
{{- end }}
{{- if .Values.exchange.bundled.enabled }}
QT_VENUE_URL: http://{{ include "qt.fullname" . }}-exchange:18090
{{- else }}
QT_VENUE_URL: {{ .Values.exchange.url | quote }}
{{- with .Values.exchange.streamUrl }}
QT_VENUE_STREAM_URL: {{ . | quote }}
{{- end }}
{{- end }}
{{- if .Values.policy }}
QT_POLICY_FILE: /etc/quantum/policy.json
{{- end }}
{{- range $name, $value := .Values.settings }}
QT_{{ upper $name }}: {{ if kindIs "float64" $value }}{{ if eq $value (floor $value) }}{{ $value | int64 | quote }}{{ else }}{{ $value | quote }}{{ end }}{{ else }}{{ $value | quote }}{{ end }}
{{- end }}
{{- end }}

{{/* Secrets of one component, by reference. (dict "root" $ "secrets" list "clickhouse" bool) */}}
{{- define "qt.secretEnv" -}}
{{- $root := .root -}}
{{- $fields := .secrets }}
{{- if not $root.Values.kafka.bundled.enabled }}
{{- $fields = append $fields "kafka_password" }}
{{- end }}
{{- range $field := uniq $fields }}
{{- $ref := index $root.Values.secrets $field }}
{{- if $ref.name }}
- name: QT_{{ upper $field }}
  valueFrom:
    secretKeyRef:
      name: {{ $ref.name }}
      key: {{ default $field $ref.key }}
{{- end }}
{{- end }}
{{- if and .clickhouse $root.Values.clickhouse.existingSecret (not $root.Values.clickhouse.bundled.enabled) }}
- name: QT_CLICKHOUSE_URL
  valueFrom:
    secretKeyRef:
      name: {{ $root.Values.clickhouse.existingSecret }}
      key: {{ $root.Values.clickhouse.existingSecretKey }}
{{- end }}
{{- end }}

{{/* Pod Security "restricted". */}}
{{- define "qt.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "qt.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "qt.podCommon" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "qt.container" -}}
image: {{ include "qt.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- include "qt.containerSecurity" . | nindent 2 }}
envFrom:
  - configMapRef:
      name: {{ include "qt.fullname" . }}
{{- end }}

{{- define "qt.mounts" -}}
- name: run
  mountPath: /var/lib/quantum
- name: tmp
  mountPath: /tmp
{{- if and .Values.kafka.caSecret (not .Values.kafka.bundled.enabled) }}
- name: kafka-ca
  mountPath: /etc/kafka
  readOnly: true
{{- end }}
{{- end }}

{{- define "qt.volumes" -}}
- name: run
  emptyDir: {}
- name: tmp
  emptyDir: {}
{{- if and .Values.kafka.caSecret (not .Values.kafka.bundled.enabled) }}
- name: kafka-ca
  secret:
    secretName: {{ .Values.kafka.caSecret }}
{{- end }}
{{- end }}

{{/* Until topics are there, and tables for who writes them: the others start while ClickHouse is away. A part of the pod, so that no hook is needed and `--wait` works. */}}
{{- define "qt.waitContainer" -}}
- name: wait
  {{- include "qt.container" .root | nindent 2 }}
  args: [bootstrap, --wait, {{ ternary "--tables" "--no-tables" .clickhouse }}, --patience, {{ .root.Values.bootstrap.patienceSeconds | quote }}]
  {{- with include "qt.secretEnv" (dict "root" .root "secrets" list "clickhouse" .clickhouse) }}
  env:
    {{- . | trim | nindent 4 }}
  {{- end }}
  resources:
    {{- toYaml .root.Values.bootstrap.resources | nindent 4 }}
  volumeMounts:
    {{- include "qt.mounts" .root | nindent 4 }}
{{- end }}

{{- define "qt.storage" -}}
accessModes: [ReadWriteOnce]
{{- with .root.Values.storageClassName }}
storageClassName: {{ . }}
{{- end }}
resources:
  requests:
    storage: {{ .size }}
{{- end }}
