package configsrctest

import (
	"cmp"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hotsvc/svc/configsrc"
)

// Harness describes a source and its backend to the suite.
type Harness struct {
	// Backend makes a backend, or a scope of one, that holds nothing and that
	// nobody else uses. It is called once a case, inside the bubble where time
	// is virtual. What it must undo goes into t.Cleanup.
	Backend func(t *testing.T) *Backend

	// Virtual says that the backend is a fake in memory: cases run on virtual
	// time. Nothing in it may wait for real I/O.
	Virtual bool

	// IdleRequests is the driver's promise: one blocked call makes no more than
	// this many requests in Idle. Required.
	IdleRequests int
	// Idle is that time. Default 1 h if Virtual, else 3 s.
	Idle time.Duration
	// Within is how soon a call returns that has something to return, from the
	// moment of the change. Default 1 s.
	Within time.Duration
	// Quiet is how long a call must block to count as blocked. Default Idle if
	// Virtual, else Within and half of it again.
	Quiet time.Duration
	// Resync is Within where the backend's signal was lost, or its position
	// went backwards. Default Within.
	Resync time.Duration
	// Burst is the number of publications in the burst. Default 1,000; less only
	// where a real backend is slow.
	Burst int
	// Keys is the number of keys in the large content. Default 2,000; less only
	// where a real backend is slow.
	Keys int
	// TextBytes is the size of the longest text in it. Default 64 KiB; less only
	// where a real backend takes no more.
	TextBytes int

	// Missing gives, for the name of each case that cannot apply, the reason.
	Missing map[string]string
}

// Backend is one scope of a backend and what the suite may do to it. New and
// Publish are required; each other hook that is nil needs a reason in
// Harness.Missing for the cases that use it. Hooks may end the test; Publish
// is called from a goroutine of the suite, one call at a time.
type Backend struct {
	// New makes another, independent source on this scope.
	New func() (configsrc.Source, error)
	// Publish replaces the whole content, as one change. Keys are flat, those of
	// list elements too ("a[0].b"); values are texts and must come back as texts.
	Publish func(content map[string]string)
	// PublishTree does the same with a nested content, for a backend that types
	// its values: maps, []any, bool, int64, uint64, float64, string, and nil in
	// lists. All must come back as configsrc.FromTree has them. A backend of
	// texts has no such hook, and says so in Missing.
	PublishTree func(content map[string]any)
	// PublishEmpty publishes a content without keys. A backend in which that is
	// the same as none has no such hook, and says so in Missing.
	PublishEmpty func()
	// Delete removes the configuration, so that the backend says there is none.
	Delete func()
	// Touch writes the content that is there once more, so that the backend's
	// position (index, modification time) moves and the content does not.
	Touch func()
	// Break publishes content that does not parse and holds text.
	Break func(text string)

	// Deny makes the backend refuse the reader, until Allow.
	Deny, Allow func()
	// Down makes the backend unreachable, until Up. Publish still works.
	Down, Up func()
	// Fail makes one request fail on the server's side: the one after skip more
	// answers. A request that waits at the backend now is the first to answer.
	Fail func(skip int)
	// Hang makes the backend accept requests and answer none, after skip more
	// answers, until Up. Counted as for Fail.
	Hang func(skip int)
	// Stall makes the backend send half of each answer and no more, until Up.
	Stall func()
	// Garble holds, by name, ways to answer what is no answer of this backend
	// (half a body, a login page), until Up. Each must be an error.
	Garble map[string]func()
	// LoseSignals makes the backend forget to tell waiting readers of changes,
	// or tell them late, twice or out of order, from now on.
	LoseSignals func()
	// Rewind makes the backend's position go back, as after a restored backup,
	// and changes the content to the given one.
	Rewind func(content map[string]string)
	// Redirect makes the backend redirect to another host, until Up. The func it
	// returns counts the requests that this host has got.
	Redirect func() (strayed func() int)

	// Requests is the number of requests that the backend has got.
	Requests func() int
	// Open is the number of requests, or connections, that are open now.
	Open func() int
	// Release lets go of what the harness itself holds for the sources, such as
	// idle connections of a client that it gave them. Optional.
	Release func()

	// Secrets are the credentials that the sources were given: texts that must
	// show up nowhere. Empty only where the backend takes none.
	Secrets []string
	// Logs is all that the sources have logged. Optional.
	Logs func() string
}

// rule is one case of the suite.
type rule struct {
	name  string
	needs []string // hooks
	run   func(p *probe)
}

func rules() []rule {
	return slices.Concat(stateRules(), contentRules(), faultRules(), versionRules(), endRules())
}

// Run runs the suite as subtests of t.
func Run(t *testing.T, h Harness) {
	t.Helper()
	if h.Backend == nil || h.IdleRequests <= 0 {
		t.Fatal("the harness needs Backend and IdleRequests")
	}
	if h.Virtual {
		h.Idle = cmp.Or(h.Idle, time.Hour)
	} else {
		h.Idle = cmp.Or(h.Idle, 3*time.Second)
	}
	h.Within = cmp.Or(h.Within, time.Second)
	if h.Virtual {
		h.Quiet = cmp.Or(h.Quiet, h.Idle)
	} else {
		h.Quiet = cmp.Or(h.Quiet, h.Within*3/2)
	}
	h.Resync = max(h.Resync, h.Within)
	h.Burst = cmp.Or(h.Burst, 1000)
	h.Keys = cmp.Or(h.Keys, 2000)
	h.TextBytes = cmp.Or(h.TextBytes, 64<<10)

	all := rules()
	for name, reason := range h.Missing {
		if !slices.ContainsFunc(all, func(r rule) bool { return r.name == name }) {
			t.Errorf("Missing names %q, which is no case", name)
		}
		if reason == "" {
			t.Errorf("Missing gives no reason for %q", name)
		}
	}
	for _, r := range all {
		t.Run(r.name, func(t *testing.T) {
			if h.Virtual {
				synctest.Test(t, func(t *testing.T) { r.check(t, h) })
			} else {
				r.check(t, h)
			}
		})
	}
}

func (r rule) check(t *testing.T, h Harness) {
	t.Helper()
	b := h.Backend(t)
	if b.New == nil || b.Publish == nil {
		t.Fatal("the backend needs New and Publish")
	}
	reason, excused := h.Missing[r.name]
	for _, hook := range r.needs {
		switch {
		case b.has(hook):
		case excused:
			t.Logf("does not apply: %s", reason)
			return
		default:
			t.Fatalf("needs the hook %s: provide it, or give the reason in Missing", hook)
		}
	}
	if excused {
		t.Fatalf("Missing gives a reason, and every hook is there: %v", r.needs)
	}
	p := newProbe(t, h, b)
	defer p.finish()
	r.run(p)
}

func (b *Backend) has(hook string) bool {
	switch hook {
	case "PublishTree":
		return b.PublishTree != nil
	case "PublishEmpty":
		return b.PublishEmpty != nil
	case "Delete":
		return b.Delete != nil
	case "Touch":
		return b.Touch != nil
	case "Break":
		return b.Break != nil
	case "Deny":
		return b.Deny != nil && b.Allow != nil
	case "Down":
		return b.Down != nil && b.Up != nil
	case "Fail":
		return b.Fail != nil
	case "Hang":
		return b.Hang != nil && b.Up != nil
	case "Stall":
		return b.Stall != nil && b.Up != nil
	case "Garble":
		return len(b.Garble) > 0 && b.Up != nil
	case "LoseSignals":
		return b.LoseSignals != nil
	case "Rewind":
		return b.Rewind != nil
	case "Redirect":
		return b.Redirect != nil && b.Up != nil
	case "Requests":
		return b.Requests != nil
	case "Open":
		return b.Open != nil
	case "Secrets":
		return len(b.Secrets) > 0
	}
	panic("configsrctest: no such hook: " + hook)
}
