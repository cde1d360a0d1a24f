package pluginhost

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// Bounds of what a plugin says about itself and its configuration. It is kept, shown and served as long as it runs.
const (
	maxSchema       = 1 << 20 // bytes
	maxSchemaDepth  = 100     // levels
	maxSchemaParts  = 1 << 19 // with each reference replaced by what it refers to
	maxCapabilities = 100
	maxProblems     = 10 // that are shown
)

// bound refuses a description that no honest plugin has, and cuts texts that are only shown.
func bound(hello *protocol.Hello, desc *protocol.Description) error {
	if n := len(desc.ConfigSchema); n > maxSchema {
		return fmt.Errorf("its configuration schema has %d bytes, %d are the most that is allowed", n, maxSchema)
	}
	if deeper(desc.ConfigSchema, maxSchemaDepth) {
		return fmt.Errorf("its configuration schema is nested more than %d levels deep", maxSchemaDepth)
	}
	if sprawls(desc.ConfigSchema) {
		return fmt.Errorf("its configuration schema has more than %d parts once its references are followed", maxSchemaParts)
	}
	if n := len(hello.Capabilities); n > maxCapabilities {
		return fmt.Errorf("it lists %d capabilities, %d are the most that is allowed", n, maxCapabilities)
	}
	for i, c := range hello.Capabilities {
		hello.Capabilities[i] = quotable(c)
	}
	for _, text := range []*string{&hello.Software, &desc.Name, &desc.Version, &desc.Author, &desc.Summary} {
		*text = quotable(*text)
	}
	return nil
}

// deeper tells whether JSON is nested deeper than so many levels, without recursion.
func deeper(text []byte, most int) bool {
	dec := json.NewDecoder(bytes.NewReader(text))
	for depth := 0; ; {
		token, err := dec.Token()
		if err != nil {
			return false // its end, or no JSON: that is told elsewhere
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			if depth++; depth > most {
				return true
			}
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
}

// sprawls tells whether a schema is so large, once its references are followed, that to hold a configuration against it would
// take for ever: a few definitions that refer to one another twenty times each are enough for that.
func sprawls(schema []byte) bool {
	var root map[string]any
	if json.Unmarshal(schema, &root) != nil {
		return false // told elsewhere
	}
	m := masker{root: root}
	parts := 0
	following := map[string]bool{}
	var walk func(part any) bool
	walk = func(part any) bool {
		if parts++; parts > maxSchemaParts {
			return true
		}
		switch part := part.(type) {
		case []any:
			return slices.ContainsFunc(part, walk)
		case map[string]any:
			if ref, ok := part["$ref"].(string); ok && !following[ref] {
				following[ref] = true
				if walk(m.resolve(ref)) {
					return true
				}
				delete(following, ref)
			}
			for _, inner := range part {
				if walk(inner) {
					return true
				}
			}
		}
		return false
	}
	return walk(root)
}

// machines are the names under which Go knows the processors of an ELF file.
var machines = map[elf.Machine]string{
	elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64", elf.EM_386: "386", elf.EM_ARM: "arm", elf.EM_RISCV: "riscv64",
	elf.EM_PPC64: "ppc64", elf.EM_S390: "s390x", elf.EM_LOONGARCH: "loong64", elf.EM_MIPS: "mips",
}

// explainExec turns the kernel's refusal to run a file into something that a person can act on.
func explainExec(path string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOEXEC):
		return fmt.Errorf("this machine cannot run the file: %s", explainFormat(path))
	case errors.Is(err, fs.ErrNotExist):
		if loader := interpreter(path); loader != "" {
			return fmt.Errorf("the file needs %s, which is not on this machine", loader)
		}
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the system does not allow to run the file (%w): is the data directory on a file system mounted noexec?", err)
	}
	return fmt.Errorf("cannot be started: %w", err)
}

func explainFormat(path string) string {
	f, err := elf.Open(path)
	if err != nil {
		return explainForeign(path)
	}
	defer func() { _ = f.Close() }()
	name, known := machines[f.Machine]
	if !known {
		name = f.Machine.String()
	}
	if name != runtime.GOARCH {
		return fmt.Sprintf("it was built for %s, this machine is %s", name, runtime.GOARCH)
	}
	return fmt.Sprintf("it is an ELF file of type %s for %s, and no complete program", f.Type, name)
}

func explainForeign(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = f.Close() }()
	magic := make([]byte, 4)
	if _, err := io.ReadFull(f, magic); err != nil {
		return "it is too short to be a program"
	}
	switch {
	case bytes.HasPrefix(magic, []byte("MZ")):
		return "it is a Windows program"
	case bytes.Equal(magic, []byte{0xcf, 0xfa, 0xed, 0xfe}), bytes.Equal(magic, []byte{0xca, 0xfe, 0xba, 0xbe}):
		return "it is a macOS program"
	case bytes.HasPrefix(magic, []byte("\x7fELF")):
		return "it is a damaged ELF file"
	case bytes.HasPrefix(magic, []byte("PK")), bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return "it is an archive: unpack it"
	}
	return "it is neither a program nor a script that starts with #!"
}

// interpreter is what a script or a dynamically linked program needs to run.
func interpreter(path string) string {
	if f, err := elf.Open(path); err == nil {
		defer func() { _ = f.Close() }()
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP {
				name, _ := io.ReadAll(io.LimitReader(p.Open(), 4096))
				return "the loader " + quotable(strings.TrimRight(string(name), "\x00"))
			}
		}
		return ""
	}
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	first, _ := bufio.NewReader(io.LimitReader(f, 4096)).ReadString('\n')
	if name, ok := strings.CutPrefix(first, "#!"); ok {
		return "the interpreter " + quotable(name)
	}
	return ""
}

// explainStart says why a process that was started did not become a plugin. err is go-plugin's own word, the last resort.
func explainStart(p *process, timedOut bool, after time.Duration, err error) error {
	shook, stray, bad := p.shakes.result()
	if bad != nil {
		return bad
	}
	quote := ""
	if stray != "" {
		quote = fmt.Sprintf("; the first line on its stdout is %q", stray)
	}
	switch {
	case shook && timedOut:
		return fmt.Errorf("it announced itself and then did not answer within %s; killed", after)
	case shook && p.endedItself():
		return fmt.Errorf("it ended right after its handshake: %s", p.how)
	case shook:
		return fmt.Errorf("it announced itself, but the connection failed: %w", err)
	case timedOut:
		return fmt.Errorf("no handshake on stdout within %s: it hangs or is not a Rivergate plugin%s; killed", after, quote)
	}
	return fmt.Errorf("it ended before its handshake, so it crashed or is not a Rivergate plugin: %s%s", p.how, quote)
}
