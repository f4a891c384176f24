package file

import (
	"io/fs"
	"syscall"
)

const openFlags = syscall.O_NONBLOCK

func sightOf(info fs.FileInfo) sight {
	v := sight{size: info.Size(), modified: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		v.device, v.inode = uint64(st.Dev), st.Ino //nolint:gosec // only compared
		v.changed = st.Ctimespec.Nano()
	}
	return v
}

const flagLocal = 0x1000 // MNT_LOCAL of getfsstat(2)

func traitsOf(path string) traits {
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		return traits{times: true}
	}
	return traits{events: st.Flags&flagLocal != 0, times: true}
}
