package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
)

// maxSocketPath is the longest path of a unix socket that works on all systems
// (sun_path holds 108 bytes on Linux and 104 elsewhere, with the final NUL).
const maxSocketPath = 103

// CheckSocketPath tells whether a unix socket can have this path.
func CheckSocketPath(path string) error {
	if len(path) > maxSocketPath {
		return fmt.Errorf("unix socket %s: the path has %d bytes, a socket's may have %d: choose a shorter state folder", path, len(path), maxSocketPath)
	}
	return nil
}

// ListenUnix listens on a unix socket that only this user can open (0600). A
// socket left by a process that died is replaced; the caller makes sure, by a
// lock on the folder, that no living process uses it.
func ListenUnix(ctx context.Context, path string) (net.Listener, error) {
	if err := CheckSocketPath(path); err != nil {
		return nil, err
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("look for old admin socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("listen on admin socket %s: there is a file of this name that is no socket: remove it or choose another state folder", path)
	default:
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove old admin socket: %w", err)
		}
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on admin socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("protect admin socket: %w", err), l.Close())
	}
	return l, nil
}
