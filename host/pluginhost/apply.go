package pluginhost

// Changes is what Apply did, by instance.
type Changes struct {
	Started, Stopped, Replaced, Unchanged []string
	// Failed says why an instance could not be changed; it goes on as it was. A new one that does not run yet is tried
	// again and again, and is in Started too.
	Failed map[string]string
}
