package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gofrs/flock"
)

const (
	adminSocket = "admin.sock"
	lockFile    = "lock"
)

// stateDir is the state folder, held by this process alone.
type stateDir struct {
	path string
	lock *flock.Flock
	open bool // to other users
}

// openStateDir makes the folder where it is missing and locks it. The lock goes
// with the process, however that ends.
func openStateDir(path string) (*stateDir, error) {
	hint := "set SVC_STATE_DIR to another folder"
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make state folder: %w; %s", err, hint)
	}
	lock := flock.New(filepath.Join(path, lockFile), flock.SetPermissions(0o600))
	locked, err := lock.TryLock()
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("lock state folder: %w: it must be writable; %s", err, hint)
	case err != nil:
		return nil, fmt.Errorf("lock state folder: %w; %s", err, hint)
	case !locked:
		owner := "another svc"
		if pid, err := os.ReadFile(lock.Path()); err == nil && len(pid) > 0 {
			owner += " (process " + strings.TrimSpace(string(pid)) + ")"
		}
		return nil, fmt.Errorf("lock state folder %s: %s is running with it; stop that one, or %s", path, owner, hint)
	}
	// For the message above, in another process.
	if err := os.WriteFile(lock.Path(), []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("write to state folder: %w; %s", err, hint), lock.Unlock())
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("look at state folder: %w", err), lock.Unlock())
	}
	return &stateDir{path: path, lock: lock, open: info.Mode().Perm()&0o077 != 0}, nil
}

func (d *stateDir) close() error { return d.lock.Close() }
