package conformance

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// handshakeLine is looked for inside a line: a plugin may have printed something without a line break before it.
var handshakeLine = regexp.MustCompile(`(\d+)\|(\d+)\|(unix|tcp)\|([^|\s]+)(?:\|([a-z]+))?(?:\|([^|\s]*))?(\|\S*)?\s*$`)

// line is the handshake line: core|version|network|address|protocol.
type line struct{ core, version, network, address, protocol string }

// parseLine finds the handshake in a line of standard output; before is what else is on it.
func parseLine(text string) (before string, l line, ok bool) {
	at := handshakeLine.FindStringSubmatchIndex(text)
	if at == nil {
		return text, line{}, false
	}
	m := handshakeLine.FindStringSubmatch(text)
	core := m[1]
	before = text[:at[0]]
	if len(core) > 1 && strings.HasSuffix(core, "1") { // digits before it are noise
		before, core = before+core[:len(core)-1], "1"
	}
	return before, line{core: core, version: m[2], network: m[3], address: m[4], protocol: m[5]}, true
}

// check tells whether a host could follow the line.
func (l line) check(dir string, offered []int) error {
	if l.core != "1" {
		return fail("the core protocol version 1, the first field of the handshake line", l.core, "write 1 as the first field")
	}
	if l.protocol != "grpc" {
		return fail("grpc, the fifth field of the handshake line", strconv.Quote(l.protocol), "serve gRPC and say so in the fifth field")
	}
	if v, err := strconv.Atoi(l.version); err != nil || !slices.Contains(offered, v) {
		return fail(fmt.Sprintf("one of the offered protocol versions %v, the second field of the handshake line", offered), l.version, "choose the highest version of PLUGIN_PROTOCOL_VERSIONS that the plugin speaks")
	}
	if l.network == "tcp" {
		if at, err := netip.ParseAddrPort(l.address); err != nil || !at.Addr().IsLoopback() || at.Port() == 0 {
			return fail("a loopback address with its port", oneLine(l.address), "listen on 127.0.0.1, and write the address with the port")
		}
		return nil
	}
	inside, err := filepath.Rel(dir, filepath.Clean(l.address))
	if err != nil || !filepath.IsLocal(inside) {
		return fail("a socket in the folder that PLUGIN_UNIX_SOCKET_DIR names", oneLine(l.address), "make the socket in PLUGIN_UNIX_SOCKET_DIR: elsewhere it would be left behind")
	}
	if info, err := os.Lstat(l.address); err != nil || info.Mode().Type() != os.ModeSocket {
		return fail("a socket that is there", "none at "+oneLine(l.address), "listen before the handshake line is written")
	}
	return nil
}
