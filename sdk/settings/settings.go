// Package settings declares configuration once, in struct tags, and derives the rest from them: defaults, a JSON Schema,
// decoding that reports every problem at once, and the table for a README. Plugins use it through sdk.Serve, the host for
// its own RIVERGATE_… variables. How variables become a configuration is package schema's subject.
//
// Tags of a field:
//
//	config:"flush_interval"   the property's name in lower snake case; its variable is PREFIX_FLUSH_INTERVAL
//	default:"5s"              used when the variable is not set or empty
//	required:"true"
//	doc:"One sentence."
//	enum:"jsonl,csv"          allowed values
//	min:"1" max:"100"         bounds of a number or a duration
//	format:"uri"              a JSON Schema format: uri; hostname, email … are checked by the host alone
//	pattern:"^[a-z]+$"
//	example:"out/{org}.jsonl"
//	gone:"true"               a setting of former times: refused when it is set, with doc as the reason
//
// Field types: string, Secret, bool, int and int64, float64, time.Duration ("1m30s"), Bytes ("16MiB" or a number),
// []string (comma separated), map[string]string ("a=b,c=d") and named string types.
package settings

// Secret is a string that is never printed: its String, its JSON and its log form are "***". Reveal returns the value.
type Secret string

// Bytes is a size in bytes; in text it may carry KiB, MiB, GiB or TiB.
type Bytes int64

// Problem is one thing wrong with a configuration. Variable is its full name; Nearest is the known name that was probably
// meant, when Variable is unknown.
type Problem struct {
	Variable string `json:"variable"`
	Reason   string `json:"reason"`
	Nearest  string `json:"nearest,omitempty"`
}

// Field describes one setting, for documentation.
type Field struct {
	Property, Variable, Type, Default, Doc, Example string
	Enum                                            []string
	Required, Secret                                bool
}
