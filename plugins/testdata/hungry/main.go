// Command hungry is a pusher that takes what each row tells it to take, and rejects the row with what became of it as the
// message: memory of its own, of a child, or shared with a child; open files. It also tells who it is. It proves that
// limits hold, and whom they hit.
//
//	{"do":"eat","mib":300}    {"do":"child","mib":300}    {"do":"share","mib":80}    {"do":"open","files":100}    {"do":"who"}
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/rivergate/rivergate/sdk"
)

const (
	envEat   = "HUNGRY_EAT"   // MiB that a child is to take
	envShare = "HUNGRY_SHARE" // MiB of descriptor 3 that it is to map
	mebibyte = 1 << 20
)

type hungry struct {
	held     [][]byte
	files    []*os.File
	children []*exec.Cmd
}

type wish struct {
	Do    string `json:"do"`
	MiB   int    `json:"mib"`
	Files int    `json:"files"`
}

func (h *hungry) Open(context.Context, sdk.Env) error { return nil }

func (h *hungry) Deliver(_ context.Context, b *sdk.Batch) error {
	for row := range b.Rows() {
		var w wish
		if err := json.Unmarshal(row.JSON(), &w); err != nil {
			return err
		}
		said, err := h.grant(w)
		if err != nil {
			said = "failed: " + err.Error()
		}
		b.Reject(row, "hungry", errors.New(said))
	}
	return nil
}

func (h *hungry) grant(w wish) (string, error) {
	switch w.Do {
	case "eat":
		h.held = append(h.held, touched(w.MiB))
		return "eaten", nil
	case "child":
		return "fed", h.child(envEat, w.MiB, nil)
	case "share":
		fd, err := unix.MemfdCreate("shared", unix.MFD_CLOEXEC)
		if err != nil {
			return "", err
		}
		file := os.NewFile(uintptr(fd), "shared")
		if err := file.Truncate(int64(w.MiB) * mebibyte); err != nil {
			return "", err
		}
		if err := mapped(file, w.MiB); err != nil {
			return "", err
		}
		return "shared", h.child(envShare, w.MiB, file)
	case "open":
		for range w.Files {
			f, err := os.Open(os.DevNull)
			if err != nil {
				return "", err
			}
			h.files = append(h.files, f)
		}
		return "opened", nil
	case "who":
		return who()
	}
	return "", fmt.Errorf("unknown wish %q", w.Do)
}

// child starts this program again and waits until it has what it shall have.
func (h *hungry) child(variable string, mib int, file *os.File) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), variable+"="+strconv.Itoa(mib))
	if file != nil {
		cmd.ExtraFiles = []*os.File{file}
	}
	if _, err := cmd.StdinPipe(); err != nil { // the child ends when it closes
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	h.children = append(h.children, cmd)
	_, err = bufio.NewReader(out).ReadString('\n')
	return err
}

func touched(mib int) []byte {
	b := make([]byte, mib*mebibyte)
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	return b
}

func mapped(file *os.File, mib int) error {
	b, err := unix.Mmap(int(file.Fd()), 0, mib*mebibyte, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	return nil
}

// who tells the user, the group, the further groups, what its program's file lets it do, and its limits.
func who() (string, error) {
	groups, err := os.Getgroups()
	if err != nil {
		return "", err
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	var files, data syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return "", err
	}
	if err := syscall.Getrlimit(syscall.RLIMIT_DATA, &data); err != nil {
		return "", err
	}
	_, written := os.OpenFile(self, os.O_WRONLY, 0)
	moved := os.Rename(self, self+".mine")
	_, created := os.Create(filepath.Join(os.TempDir(), "mine"))
	_, listed := os.ReadDir(filepath.Dir(os.TempDir()))
	return fmt.Sprintf("uid=%d gid=%d groups=%v nofile=%d data=%d program=%s changes_program=%t exchanges_program=%t temp=%t lists_others=%t",
		os.Getuid(), os.Getgid(), groups, files.Max, data.Max, self, written == nil, moved == nil, created == nil, listed == nil), nil
}

// serve is the child.
func serve() error {
	if n, err := strconv.Atoi(os.Getenv(envEat)); err == nil {
		held := touched(n)
		defer func() { held[0] = 0 }()
	}
	if n, err := strconv.Atoi(os.Getenv(envShare)); err == nil {
		if err := mapped(os.NewFile(3, "shared"), n); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

func main() {
	if os.Getenv(envEat) != "" || os.Getenv(envShare) != "" {
		if err := serve(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	sdk.Serve(sdk.Plugin{Name: "hungry", Version: "1.0.0", Summary: "Takes what it is told to take.", Pusher: func() sdk.Pusher { return new(hungry) }})
}
