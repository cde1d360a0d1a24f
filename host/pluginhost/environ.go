package pluginhost

import (
	"fmt"
	"os"
	"strings"
)

// defaultPath is for a host that was started without a PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environ is what a plugin process inherits of the host's environment: PATH, TZ and LANG, the variables that pass names,
// and a private TMPDIR. go-plugin adds the few that it needs. Nothing else: configuration goes by the Configure call.
func environ(pass []string, tmp string) []string {
	env := []string{"TMPDIR=" + tmp}
	path, ok := os.LookupEnv("PATH")
	if !ok {
		path = defaultPath
	}
	env = append(env, "PATH="+path)
	for _, name := range append([]string{"TZ", "LANG"}, pass...) {
		if value, ok := os.LookupEnv(name); ok && checkPassEnv(name) == nil && name != "PATH" && name != "TMPDIR" {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// checkPassEnv tells why a variable cannot be handed to a plugin.
func checkPassEnv(name string) error {
	switch {
	case name == "" || strings.ContainsAny(name, "= \x00"):
		return fmt.Errorf("%q is not the name of a variable", name)
	case strings.HasPrefix(name, "PLUGIN_"):
		return fmt.Errorf("%s cannot be passed: variables that start with PLUGIN_ never reach a plugin, they would change how it starts; the host hands it its configuration", name)
	}
	return nil
}
