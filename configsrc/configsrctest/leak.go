package configsrctest

import (
	"os"
	"time"

	"go.uber.org/goleak"
)

// leakCheck compares what is there at the end of a case with its beginning.
type leakCheck struct{ before goleak.Option }

func newLeakCheck() leakCheck { return leakCheck{goleak.IgnoreCurrent()} }

// verify is called when every source of the case is closed.
func (l leakCheck) verify(p *probe) {
	p.Helper()
	p.release()
	if p.b.Open != nil && !p.eventually(limitCancel, func() bool { return p.b.Open() == 0 }) {
		p.Errorf("%d requests are still open at the backend", p.b.Open())
	}
	if err := goleak.Find(l.before); err != nil {
		if p.h.Virtual {
			// The bubble would wait for these goroutines for ever.
			panic("the source leaves goroutines behind: " + err.Error())
		}
		p.Errorf("the source leaves goroutines behind: %v", err)
	}
}

// release lets go of what is not the source's.
func (p *probe) release() {
	if p.b.Release != nil {
		p.b.Release()
	}
}

// descriptors counts the open files of the process; -1 where that is not to be
// known.
func descriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(entries)
}

// fewDescriptors checks that no more are open than before.
func fewDescriptors(p *probe, before int) {
	p.Helper()
	if !p.eventually(2*time.Second, func() bool { return descriptors() <= before }) {
		p.Errorf("open files: %d before, %d after", before, descriptors())
	}
}
