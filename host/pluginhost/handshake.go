package pluginhost

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// handshakeLine is go-plugin's first word on stdout: core|version|network|address|protocol[|certificate[|multiplex]].
// It is looked for inside a line, for a plugin may have printed something without a line break before it.
var handshakeLine = regexp.MustCompile(`(\d+)\|(\d+)\|(unix|tcp)\|([^|\s]+)(?:\|([a-z]+))?(?:\|([^|\s]*))?(\|\S*)?\s*$`)

// errWantsTLS: the plugin listens on TCP, and was started without certificates.
var errWantsTLS = errors.New("the plugin listens on TCP without TLS, which anybody on this machine could speak to: set RIVERGATE_PLUGIN_MTLS=on or auto")

// handshake finds the handshake in a plugin's stdout among whatever else is printed there, checks it, and hands it to
// go-plugin, which never sees a stray line.
type handshake struct {
	dir       string // where sockets have to be
	versions  []int
	transport transport
	reject    func() // ends the process

	reader *io.PipeReader
	writer *io.PipeWriter

	mu    sync.Mutex
	done  bool
	bad   error  // why the handshake was refused
	stray string // the first line that was not the handshake
}

func newHandshake(dir string, versions []int, t transport) *handshake {
	h := &handshake{dir: dir, versions: versions, transport: t}
	h.reader, h.writer = io.Pipe()
	return h
}

// line takes a line of stdout, and tells whether it was the handshake. Any other line goes to the log.
func (h *handshake) line(line []byte) bool {
	h.mu.Lock()
	if h.done {
		h.mu.Unlock()
		return false
	}
	m := handshakeLine.FindSubmatch(line)
	if m == nil {
		if h.stray == "" {
			h.stray = quotable(string(line))
		}
		h.mu.Unlock()
		return false
	}
	h.done = true
	said := said{core: string(m[1]), version: string(m[2]), network: string(m[3]), address: string(m[4]), protocol: string(m[5]), cert: string(m[6])}
	h.bad = h.check(said)
	bad := h.bad
	h.mu.Unlock()

	if bad != nil {
		h.reject()
		return true
	}
	// go-plugin reads until the pipe is closed, so this does not wait long.
	_, _ = fmt.Fprintf(h.writer, "1|%s|%s|%s|%s|%s\n", said.version, said.network, said.address, said.protocol, said.cert)
	return true
}

type said struct{ core, version, network, address, protocol, cert string }

func (h *handshake) check(s said) error {
	if !strings.HasSuffix(s.core, "1") { // digits before it may be the plugin's own noise
		return fmt.Errorf("the plugin speaks version %s of go-plugin's core protocol, this host speaks 1: build it with a current SDK", s.core)
	}
	if s.protocol != "grpc" {
		return fmt.Errorf("the plugin speaks %s, this host speaks grpc only: build it with Rivergate's SDK", cmp.Or(s.protocol, "net/rpc"))
	}
	if v, err := strconv.Atoi(s.version); err != nil || !slices.Contains(h.versions, v) {
		return fmt.Errorf("the plugin speaks version %s of the plugin protocol, this host speaks %v: use a plugin and a host that belong together", s.version, h.versions)
	}
	if h.transport.tls && s.cert == "" {
		return errors.New("the plugin cannot speak TLS, and RIVERGATE_PLUGIN_MTLS=on demands it")
	}
	if s.network == "tcp" {
		at, err := netip.ParseAddrPort(s.address)
		if err != nil || !at.Addr().IsLoopback() {
			return fmt.Errorf("the plugin listens on %s; only a loopback address is allowed", quotable(s.address))
		}
		if !h.transport.tls && !h.transport.plainTCP {
			return errWantsTLS
		}
	}
	if !h.transport.tls && len(s.cert) > longestNoCertificate {
		return errors.New("the plugin demands TLS, which it was not asked for: set RIVERGATE_PLUGIN_MTLS=on, or build it with Rivergate's SDK")
	}
	if s.network == "tcp" {
		return nil
	}
	inside, err := filepath.Rel(h.dir, filepath.Clean(s.address))
	if err != nil || !filepath.IsLocal(inside) {
		return fmt.Errorf("the plugin listens on the socket %s, which is not in the folder of PLUGIN_UNIX_SOCKET_DIR: it would be left behind", quotable(s.address))
	}
	if info, err := os.Lstat(s.address); err != nil || info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("the plugin says that it listens on %s, which is not a socket", quotable(s.address))
	}
	return nil
}

// close tells go-plugin that no handshake will come.
func (h *handshake) close() { _ = h.writer.Close() }

// result is what is known about the handshake: whether it came, the first line that was none, and why it was refused.
func (h *handshake) result() (done bool, stray string, bad error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.done, h.stray, h.bad
}
