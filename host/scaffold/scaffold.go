// Package scaffold writes the repository of a new plugin, and proves that it builds and passes before it says so. The files
// are those of templates/; what they say about the contract is in sdk/README.md.
package scaffold

import (
	"bytes"
	"cmp"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/rivergate/rivergate/host/pluginhost"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// goVersion is what a new repository's go.mod asks for: what the SDK needs.
const goVersion = "1.26.0"

//go:embed all:templates
var templates embed.FS

//go:embed all:python
var pythonTemplates embed.FS

// The languages that a plugin can be written in here.
const (
	Go     = "go"
	Python = "python"
)

// Options say what is to be written.
type Options struct {
	Name   string        // of the plugin: acme
	Kind   protocol.Kind // only pushers can be written so far
	Lang   string        // Go or Python; empty: Go
	Module string        // of its go.mod; empty: example.com/rivergate-pusher-<name>
	Dir    string        // of the repository; empty: rivergate-pusher-<name> in the working folder
	SDK    SDK
}

// Mistake is a wish that cannot be met; nothing was written.
type Mistake struct{ Reason string }

func (m *Mistake) Error() string { return m.Reason }

func mistake(format string, args ...any) error { return &Mistake{fmt.Sprintf(format, args...)} }

// Repository is what was written.
type Repository struct {
	Name     string   `json:"name"`
	Lang     string   `json:"lang"`
	Binary   string   `json:"binary"` // file name: rivergate-pusher-acme
	Module   string   `json:"module,omitempty"`
	Dir      string   `json:"dir"`   // absolute
	Files    []string `json:"files"` // below Dir
	SDK      SDK      `json:"sdk"`
	Warnings []string `json:"warnings,omitempty"`
}

var (
	moduleForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._~-]*(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*$`)
	// taken are the file names of the templates: a plugin of such a name keeps its code in pusher.go.
	taken = []string{"main", "conformance", "docs"}
)

// Write writes the repository. Verify proves that it works.
func Write(o Options) (*Repository, error) {
	if o.Kind == "" {
		o.Kind = protocol.KindPusher
	}
	if o.Kind != protocol.KindPusher {
		return nil, mistake("a plugin of the kind %q cannot be made: only pushers can be written in this version", o.Kind)
	}
	if err := pluginhost.CheckName(o.Name); err != nil {
		return nil, &Mistake{err.Error()}
	}
	r := &Repository{Name: o.Name, Lang: cmp.Or(o.Lang, Go), Binary: pluginhost.BinaryName(o.Kind, o.Name), Module: o.Module, SDK: o.SDK}
	switch {
	case r.Lang != Go && r.Lang != Python:
		return nil, mistake("a plugin cannot be written in %q: only in go or python (--lang)", r.Lang)
	case r.Lang == Python && r.Module != "":
		return nil, mistake("--module is the path of a Go module, and a plugin in Python is none")
	case r.Lang == Go && r.Module == "":
		r.Module = "example.com/" + r.Binary
	}
	if r.Lang == Go && !moduleForm.MatchString(r.Module) {
		return nil, mistake("%q cannot be the path of a Go module; such as example.com/%s can (--module)", r.Module, o.Name)
	}
	dir := o.Dir
	if dir == "" {
		dir = r.Binary
	}
	var err error
	if r.Dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("find the folder of the repository: %w", err)
	}
	if r.Warnings, err = checkPlace(r.Dir); err != nil {
		return nil, err
	}
	return r, r.write()
}

// checkPlace tells whether a repository can lie in dir, and what would surprise its owner there.
func checkPlace(dir string) (warnings []string, err error) {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, mistake("%s cannot be the folder of the repository (--dir): %v", dir, err)
	case len(entries) > 0:
		return nil, mistake("%s is not empty, and nothing in it is overwritten: name another folder with --dir", dir)
	}
	for at := filepath.Dir(dir); ; at = filepath.Dir(at) {
		mod, err := os.ReadFile(filepath.Join(at, "go.mod"))
		if err == nil && moduleOf(mod) == sdkModule {
			return nil, mistake("%s lies inside Rivergate's own repository, %s: a plugin is a repository of its own, so name a folder outside with --dir", dir, at)
		}
		if err == nil {
			warnings = append(warnings, fmt.Sprintf("%s lies inside the Go module %s (%s): it is left out of that one's packages", dir, moduleOf(mod), at))
		}
		if _, err := os.Stat(filepath.Join(at, "go.work")); err == nil {
			warnings = append(warnings, fmt.Sprintf("%s lies inside the Go workspace %s: build it with GOWORK=off, or go work use it", dir, filepath.Join(at, "go.work")))
		}
		if at == filepath.Dir(at) {
			return warnings, nil
		}
	}
}

// values are what the templates are filled with.
type values struct {
	Name, Type, File, Binary, Prefix, Module, Go string
	SDKModule, SDKVersion, SDKFolder             string
	SDKURL, SDKRelease                           string // for pip
}

func (r *Repository) values() values {
	v := values{
		Name: r.Name, Type: typeName(r.Name), File: r.Name, Binary: r.Binary, Module: r.Module, Go: goVersion,
		Prefix:    pluginhost.VariablePrefix(protocol.KindPusher, r.Name),
		SDKModule: sdkModule, SDKVersion: r.SDK.Version, SDKFolder: r.SDK.Folder,
	}
	if slices.Contains(taken, v.File) {
		v.File = "pusher"
	}
	if r.Lang == Python {
		v.File = pythonModule(r.Name)
		v.SDKURL = (&url.URL{Scheme: "file", Path: filepath.ToSlash(filepath.Join(r.SDK.Folder, "sdk", "python"))}).String()
		v.SDKRelease = strings.TrimPrefix(r.SDK.Version, "v")
	}
	if v.SDKFolder != "" {
		v.SDKVersion = unreleased
		v.SDKFolder = quotePath(v.SDKFolder)
	}
	return v
}

// typeName is the Go type of a plugin: acme-lab is AcmeLab.
func typeName(name string) string {
	var b strings.Builder
	for word := range strings.SplitSeq(name, "-") {
		if word != "" {
			b.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}
	return b.String()
}

// target is where a template goes in the repository.
func target(template string, v values) string {
	path := strings.TrimSuffix(template, ".tmpl")
	switch path {
	case "gitignore":
		return ".gitignore"
	case "pusher.py":
		return v.File + ".py"
	case "test_pusher.py":
		return "test_" + v.File + ".py"
	case "pusher.go":
		return v.File + ".go"
	case "pusher_test.go":
		return v.File + "_test.go"
	}
	return path
}

func (r *Repository) write() error {
	v := r.values()
	sources, folder := templates, "templates"
	if r.Lang == Python {
		sources, folder = pythonTemplates, "python"
	}
	sub, err := fs.Sub(sources, folder)
	if err != nil {
		return fmt.Errorf("read templates: %w", err)
	}
	err = fs.WalkDir(sub, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		raw, err := fs.ReadFile(sub, path)
		if err != nil {
			return err
		}
		text := raw
		if path != "LICENSE.tmpl" {
			if text, err = fill(path, raw, v); err != nil {
				return err
			}
		}
		name := target(path, v)
		r.Files = append(r.Files, name)
		return writeFile(filepath.Join(r.Dir, name), text)
	})
	if err == nil && r.Lang == Python {
		err = r.writeLicense()
	}
	if err == nil && r.Lang == Go && r.SDK.Folder != "" {
		err = r.copySums()
	}
	if err != nil {
		return fmt.Errorf("write the repository %s: %w", r.Dir, err)
	}
	slices.Sort(r.Files)
	return nil
}

// pythonModule is the name of a plugin's module: one that no library of Python or of ours has.
func pythonModule(name string) string {
	return strings.ReplaceAll(strings.Trim(name, "-"), "-", "_") + "_pusher"
}

// writeLicense: the text is the same whatever the language.
func (r *Repository) writeLicense() error {
	text, err := templates.ReadFile("templates/LICENSE.tmpl")
	if err != nil {
		return err
	}
	r.Files = append(r.Files, "LICENSE")
	return writeFile(filepath.Join(r.Dir, "LICENSE"), text)
}

// copySums starts the repository with the checksums of the SDK's checkout, so that what was verified there need not be
// asked for again. go mod tidy keeps those that are needed.
func (r *Repository) copySums() error {
	sums, err := os.ReadFile(filepath.Join(r.SDK.Folder, "go.sum"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	r.Files = append(r.Files, "go.sum")
	return writeFile(filepath.Join(r.Dir, "go.sum"), sums)
}

func fill(name string, text []byte, v values) ([]byte, error) {
	t, err := template.New(name).Option("missingkey=error").Parse(string(text))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func writeFile(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}
