package settings

import "github.com/rivergate/rivergate/sdk/internal/document"

// Variable is the name of a property's environment variable: flush_interval and flushInterval are PREFIX_FLUSH_INTERVAL.
func Variable(prefix, property string) string { return document.Variable(prefix, property) }
