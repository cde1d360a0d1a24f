package sdk

// Plugin is a binary: what it is, and how to make an instance of what it does.
type Plugin struct {
	Name    string // [a-z][a-z0-9-]*; the binary is rivergate-pusher-<name>
	Version string // semantic version
	Author  string
	Summary string // one line
	// NeedsTrigger asks the host to look up the trigger of each uuid and hand it along with the rows.
	NeedsTrigger bool
	// Pusher makes one value per instance, a pointer to a struct with config tags (see package settings).
	Pusher func() Pusher
}
