package socket

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// file is the file that a unix socket has made. The socket holds on to it, also
// when it is removed, so that as long as the socket is open no other file can
// have the same device and inode.
type file struct {
	path string
	info fs.FileInfo
}

// newFile looks up the file of a socket that was just bound to path.
func newFile(path string) (*file, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, fmt.Errorf("look at the file of the socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return nil, errors.New("the file of the socket was replaced")
	}
	return &file{path, info}, nil
}

// chmod gives the file its mode.
func (f *file) chmod(mode os.FileMode) error {
	if f.info.Mode().Perm() == mode.Perm() {
		return nil
	}
	if err := os.Chmod(f.path, mode.Perm()); err != nil {
		return fmt.Errorf("set who may use the socket: %w", err)
	}
	return nil
}

// remove removes the path as long as it is still this file. It is to be called
// while the socket is open: then a program that replaces what is abandoned finds
// that it is not, so that nobody comes between the look and the removal.
func (f *file) remove() error {
	info, err := os.Lstat(f.path)
	if err == nil && os.SameFile(info, f.info) {
		err = os.Remove(f.path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the file of the socket: %w", err)
	}
	return nil
}
