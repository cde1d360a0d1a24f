package pluginhost

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// account is the user that a plugin process runs as. It gets this user and this group and none of the user's others: what
// belongs to docker, disk or sudo is not for a plugin.
type account struct {
	name     string // as it was given
	uid, gid uint32
}

// lookupAccount understands "user", "user:group" and numbers. nil without an error: the host's own user, nothing to change.
func lookupAccount(text string) (*account, error) {
	if text == "" {
		return nil, nil
	}
	userText, groupText, hasGroup := strings.Cut(text, ":")
	a := &account{name: text}
	u, err := lookupUser(userText)
	switch {
	case err == nil:
		if a.uid, err = id(u.Uid); err == nil {
			a.gid, err = id(u.Gid)
		}
		if err != nil {
			return nil, err
		}
	case isNumber(userText) && hasGroup:
		if a.uid, err = id(userText); err != nil {
			return nil, err
		}
	case isNumber(userText):
		return nil, fmt.Errorf("names the user %s, which is not in the user database of this machine: give a group as well, such as %s:%s", userText, userText, userText)
	default:
		return nil, fmt.Errorf("names the user %q, which this machine does not know", userText)
	}
	if hasGroup {
		if a.gid, err = lookupGroup(groupText); err != nil {
			return nil, err
		}
	}
	if int(a.uid) == unix.Geteuid() && int(a.gid) == unix.Getegid() {
		return nil, nil
	}
	if unix.Geteuid() != 0 {
		return nil, fmt.Errorf("needs a host that runs as root, to become %s; this one runs as user %d: start it as root, or leave the variable out", text, unix.Geteuid())
	}
	return a, nil
}

func lookupUser(text string) (*user.User, error) {
	u, err := user.Lookup(text)
	if err != nil && isNumber(text) {
		return user.LookupId(text)
	}
	return u, err
}

func lookupGroup(text string) (uint32, error) {
	g, err := user.LookupGroup(text)
	switch {
	case err == nil:
		return id(g.Gid)
	case isNumber(text):
		return id(text)
	}
	return 0, fmt.Errorf("names the group %q, which this machine does not know", text)
}

func isNumber(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}

// id refuses the two numbers that the kernel takes for "leave as it is".
func id(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n >= 1<<32-2 {
		return 0, fmt.Errorf("has the id %s, which is out of range", text)
	}
	return uint32(n), nil
}

func (a *account) credential() *syscall.Credential {
	return &syscall.Credential{Uid: a.uid, Gid: a.gid} // no groups: setgroups clears the host's
}

// own gives a folder and what is in it to the user. Nobody but the host has been there yet.
func (a *account) own(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(a.uid), int(a.gid))
	})
}

// program makes a copy of the private copy that the user can run, and neither change nor exchange: it belongs to the host,
// in a folder that the user's group can pass through.
func (a *account) program(from, folder string) (string, error) {
	in, err := os.Open(from)
	if err != nil {
		return "", fmt.Errorf("make copy for %s: %w", a.name, err)
	}
	defer func() { _ = in.Close() }()
	path := filepath.Join(folder, filepath.Base(from))
	if err = os.Mkdir(folder, 0o700); err == nil {
		_, err = writeCopy(path, io.Reader(in))
	}
	for _, grant := range []struct {
		path string
		mode os.FileMode
	}{{path, 0o550}, {folder, 0o710}} {
		if err == nil {
			err = os.Chown(grant.path, 0, int(a.gid))
		}
		if err == nil {
			err = os.Chmod(grant.path, grant.mode)
		}
	}
	if err != nil {
		_ = os.RemoveAll(folder)
		return "", fmt.Errorf("make copy for %s: %w", a.name, err)
	}
	return path, nil
}

// reaches tells why the user cannot run a program in dir; every folder above it counts, and it itself when self is set.
func (a *account) reaches(dir string, self bool) error {
	at := dir
	if !self {
		at = filepath.Dir(dir)
	}
	for {
		info, err := os.Stat(at)
		if err != nil {
			return err
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return errors.New("the file system does not tell owners")
		}
		need := os.FileMode(0o001)
		switch {
		case stat.Uid == a.uid:
			need = 0o100
		case stat.Gid == a.gid:
			need = 0o010
		}
		if info.Mode().Perm()&need == 0 {
			return fmt.Errorf("%s cannot pass through %s", a.name, at)
		}
		if at == filepath.Dir(at) {
			break
		}
		at = filepath.Dir(at)
	}
	var fsInfo unix.Statfs_t
	if err := unix.Statfs(dir, &fsInfo); err == nil && fsInfo.Flags&unix.ST_NOEXEC != 0 {
		return fmt.Errorf("%s is on a file system mounted noexec", dir)
	}
	return nil
}
