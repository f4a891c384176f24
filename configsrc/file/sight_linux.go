package file

import (
	"io/fs"
	"syscall"
)

const openFlags = syscall.O_NONBLOCK

func sightOf(info fs.FileInfo) sight {
	v := sight{size: info.Size(), modified: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		v.device, v.inode = st.Dev, st.Ino
		v.changed = st.Ctim.Nano()
	}
	return v
}

// The magic numbers of statfs(2) for file systems that change behind the
// kernel's back.
const (
	magicNFS   = 0x6969
	magicSMB   = 0x517b
	magicCIFS  = 0xff534d42
	magicSMB2  = 0xfe534d42
	magicFUSE  = 0x65735546
	magic9P    = 0x01021997
	magicAFS   = 0x5346414f
	magicCeph  = 0x00c36400
	magicCoda  = 0x73757245
	magicVBox  = 0x786f4256
	magicProc  = 0x9fa0
	magicSysfs = 0x62656572
)

func traitsOf(path string) traits {
	var st syscall.Statfs_t
	for {
		err := syscall.Statfs(path, &st)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return traits{times: true}
		}
		break
	}
	switch uint32(st.Type) { //nolint:gosec // a magic number has 32 bits
	case magicProc, magicSysfs:
		return traits{}
	case magicNFS, magicSMB, magicCIFS, magicSMB2, magicFUSE, magic9P, magicAFS, magicCeph, magicCoda, magicVBox:
		return traits{times: true}
	}
	return traits{events: true, times: true}
}
