package config

import (
	"net/url"
	"strings"
)

// The variables of OpenTelemetry that count when RIVERGATE_TRACES_OTLP says nothing; the exporter reads the others, such as
// OTEL_EXPORTER_OTLP_HEADERS, by itself.
const (
	otelDisabled = "OTEL_SDK_DISABLED"
	otelTraces   = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" // a whole address
	otelAll      = "OTEL_EXPORTER_OTLP_ENDPOINT"        // one for all signals: a path is added
)

const tracesPath = "/v1/traces"

// traces decides where traces go.
func (l *loader) traces(h *Host) {
	variable, address := hostPrefix+"TRACES_OTLP", h.TracesURL
	whole := false
	if address == "" && !strings.EqualFold(l.env[otelDisabled], "true") {
		if variable, address = otelTraces, l.env[otelTraces]; address != "" {
			whole = true
		} else {
			variable, address = otelAll, l.env[otelAll]
		}
	}
	if address == "" {
		return
	}
	at, err := url.Parse(address)
	if err != nil || at.Host == "" || (at.Scheme != "http" && at.Scheme != "https") {
		l.problem(variable, "is no address that begins with http:// or https://", "") // it may hold credentials
		return
	}
	if !whole && !strings.HasSuffix(at.Path, tracesPath) {
		at.Path = strings.TrimRight(at.Path, "/") + tracesPath
	}
	h.TracesEndpoint = at.String()
}
