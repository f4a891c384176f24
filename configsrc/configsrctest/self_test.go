package configsrctest_test

import (
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hotsvc/svc/configsrc"
	"github.com/hotsvc/svc/configsrc/configsrctest"
)

// envFlaw names the flaw that a child process gives its source or harness.
const envFlaw = "CONFIGSRCTEST_FLAW"

// The flaws of a harness.
const (
	forgetsHook   flaw = "harness: no Touch and no reason"
	excusesHook   flaw = "harness: no Touch and a reason"
	excusesTooFar flaw = "harness: a reason and every hook"
	excusesNobody flaw = "harness: a reason for no case"
	excusesMutely flaw = "harness: an empty reason"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// passes stands for all cases, none of which fails.
const passes = "passes"

const ruleTouch = "a write of equal content is silent"

func harness(f flaw) configsrctest.Harness {
	h := configsrctest.Harness{
		Virtual: true,
		// One read, then one wait of 55 s after the other, on a network that
		// takes 2 ms.
		IdleRequests: 1 + 3600/55 + 1,
		Resync:       refWait + time.Second,
		Missing:      map[string]string{},
	}
	switch f {
	case excusesHook, excusesTooFar:
		h.Missing[ruleTouch] = "pigeonholes cannot be touched"
	case excusesNobody:
		h.Missing["a rule that is none"] = "it is none"
	case excusesMutely:
		h.Missing[ruleTouch] = ""
	}
	h.Backend = func(t *testing.T) *configsrctest.Backend {
		t.Helper()
		s := newPigeonhole()
		n := configsrctest.NewTransport(t, refHost, 2*time.Millisecond, s)
		b := &configsrctest.Backend{
			New:          func() (configsrc.Source, error) { return newReference(n, refHost, f), nil },
			Publish:      func(content map[string]string) { s.publish(content) },
			PublishTree:  func(content map[string]any) { s.publish(content) },
			PublishEmpty: func() { s.publish(map[string]any{}) },
			Delete:       func() { s.change(func() { s.doc = nil }) },
			Touch:        func() { s.change(func() {}) },
			Break:        func(text string) { s.change(func() { s.doc = []byte("{" + text) }) },
			Deny:         func() { s.change(func() { s.denied = true }) },
			Allow:        func() { s.change(func() { s.denied = false }) },
			Down:         n.Down, Up: n.Up, Fail: n.Fail, Hang: n.Hang, Stall: n.Stall,
			Redirect: n.Redirect, Garble: n.Garble(),
			LoseSignals: func() { s.change(func() { s.mute = true }) },
			Rewind: func(content map[string]string) {
				s.publish(content)
				s.change(func() { s.index = 3 })
			},
			Requests: n.Requests, Open: n.Open,
			Secrets: []string{refToken},
		}
		if f == forgetsHook || f == excusesHook || f == excusesMutely {
			b.Touch = nil
		}
		return b
	}
	return h
}

// TestReference passes; TestMutants runs cases of it in child processes, with
// one flaw each.
func TestReference(t *testing.T) {
	configsrctest.Run(t, harness(flaw(os.Getenv(envFlaw))))
}

// TestReferenceOnSockets runs the suite in real time, on a real HTTP client and
// server, where connections stay open between requests and descriptors count.
func TestReferenceOnSockets(t *testing.T) {
	configsrctest.Run(t, configsrctest.Harness{
		IdleRequests: 2,
		Within:       2 * time.Second,
		Quiet:        300 * time.Millisecond,
		Burst:        200,
		Missing: map[string]string{
			"a lost signal is made good":                              "it takes 55 s; TestReference has it",
			"one failed request loses nothing":                        "the faults are those of Transport; TestReference has them",
			"an answer that is none is an error":                      "the faults are those of Transport; TestReference has them",
			"a redirect is an error and nothing follows it":           "the faults are those of Transport; TestReference has them",
			"a call in the middle of an answer ends with its context": "the faults are those of Transport; TestReference has them",
		},
		Backend: func(t *testing.T) *configsrctest.Backend {
			t.Helper()
			s := newPigeonhole()
			var requests, open, answers atomic.Int64 // answers left before it hangs
			var down atomic.Bool
			answers.Store(math.MaxInt64)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests.Add(1)
				open.Add(1)
				defer open.Add(-1)
				if !s.await(r) {
					return
				}
				if down.Load() {
					panic(http.ErrAbortHandler)
				}
				if answers.Add(-1) < 0 {
					<-r.Context().Done()
					return
				}
				s.answer(w, r)
			}))
			t.Cleanup(server.Close)
			network := &http.Transport{}
			t.Cleanup(network.CloseIdleConnections)
			return &configsrctest.Backend{
				New: func() (configsrc.Source, error) {
					return newReference(network, server.Listener.Addr().String(), none), nil
				},
				Publish:      func(content map[string]string) { s.publish(content) },
				PublishTree:  func(content map[string]any) { s.publish(content) },
				PublishEmpty: func() { s.publish(map[string]any{}) },
				Delete:       func() { s.change(func() { s.doc = nil }) },
				Touch:        func() { s.change(func() {}) },
				Break:        func(text string) { s.change(func() { s.doc = []byte("{" + text) }) },
				Deny:         func() { s.change(func() { s.denied = true }) },
				Allow:        func() { s.change(func() { s.denied = false }) },
				Down:         func() { down.Store(true) },
				Up: func() {
					down.Store(false)
					answers.Store(math.MaxInt64)
				},
				Hang: func(skip int) { answers.Store(int64(skip)) },
				Rewind: func(content map[string]string) {
					s.publish(content)
					s.change(func() { s.index = 3 })
				},
				Requests: func() int { return int(requests.Load()) },
				Open:     func() int { return int(open.Load()) },
				Release:  network.CloseIdleConnections,
				Secrets:  []string{refToken},
			}
		},
	})
}

// TestMutants checks that the suite fails for each flaw: the case that is there
// for it, run alone, and for the reason that it has.
func TestMutants(t *testing.T) {
	if os.Getenv(envFlaw) != "" {
		t.Fatal("a child must run TestReference alone")
	}
	for _, m := range []struct {
		flaw   flaw
		rule   string // the case to run; "" is all
		reason string
	}{
		{spins, "a call blocks while nothing changes and hardly talks", "promised are"},
		{losesUpdate, "a change between two calls is found at once", "published before the call: Next did not return"},
		{fetchesInTwoSteps, "one failed request loses nothing", "the request after 1 answers failed: not found within"},
		{sticksAfterError, "an unreachable backend is said and passes", "reachable again: pigeonhole: read"},
		{sticksOnLowerIndex, "a position that goes back hides nothing", "the position went back: Next did not return"},
		{leaksGoroutine, "the first call returns the whole state at once", "leaves goroutines behind"},
		{leaksRequest, "a blocked call ends with its context", "requests are still open at the backend"},
		{leavesBodyOpen, "nothing there is not found, until something is", "requests are still open at the backend"},
		{tearsState, "a burst ends at the last state and none is torn", "never published"},
		{emptyOnNotFound, "all deleted is not found and never empty", "never published"},
		{emptyOnError, "an unreachable backend is said and passes", "unreachable"},
		{trustsHalfABody, "an answer that is none is an error", "want an error, got a snapshot"},
		{followsRedirect, "a redirect is an error and nothing follows it", "reached the other host"},
		{secretInError, "access denied is said and passes", "secret number 0 shows in"},
		{secretInLabel, "no secret shows in an error, label or log", "secret number 0 shows in"},
		{quotesContent, "invalid content is an error until it is other", "a value shows in"},
		{comparesIndex, ruleTouch, "equal content was written: Next must block"},
		{ignoresContext, "a blocked call ends with its context", "did not return within 1s of the end of its context"},
		{wrongContextError, "a blocked call ends with its context", "did not return ctx.Err()"},
		{wrongVersion, "the first call returns the whole state at once", "not the hash of the values"},
		{noVersionOnInvalid, "invalid content is an error until it is other", "carries no Version"},
		{sticksOnLastGood, "the last good content after invalid content is news", "the last good content is back: Next did not return"},
		{reusesMap, "a snapshot never changes", "changed"},
		{deniedIsOther, "access denied is said and passes", "want the kind access denied"},
		{downIsNotFound, "an unreachable backend is said and passes", "want the kind <nil>"},
		{plainError, "nothing there is not found, until something is", "lacks Backend, Op or Address"},
		{trustsCursor, "wrong content under a right cursor is found", "Next did not return"},
		{chokesOnCursor, "a cursor that means nothing neither wakes nor hides", "right content under the cursor"},
		{instanceCursor, "another instance's version is as good as one's own", "Next must block"},
		{keepsDeletedKeys, "a deleted key disappears", "suite.extra"},
		{noTimes, "the first call returns the whole state at once", "Notified and Fetched must be set"},
		{ignoresLostSignals, "a lost signal is made good", "the signal was lost: Next did not return"},
		{blocksFirst, "the first call returns the whole state at once", "first call: Next did not return"},
		{firstPageOnly, "a large content comes whole", "lacks: "},
		{dropsLists, "a large content comes whole", "lacks: list[0], list[1]"},
		{dropsEmptyTexts, "a large content comes whole", "lacks: list[1]"},
		{dropsBools, "values keep their types", "lacks: typed.value-0, typed.value-1"},
		{dropsNothings, "values keep their types", "lacks: none, nothing"},
		{textsOnly, "values keep their types", "typed.list[0] (a string, not a bool)"},
		{notFoundOnEmpty, "a content without keys is a content", "a content without keys: pigeonhole: read"},
		{pollsAfterMove, ruleTouch, "equal content was written between two calls: 5"},
		{pollsAfterRewind, "a position that goes back hides nothing", "promised are 67"},
		{pollsAfterMove, "a cursor that means nothing neither wakes nor hides", "promised are 67"},
		{pollsAfterMove, "access denied is said and passes", "promised are 67"},
		{pollsAfterMove, "the last good content after invalid content is news", "promised are 67"},
		{leavesTimer, "a blocked call ends with its context", "requests in the hour after the last call"},
		{missesDenial, "access lost under a blocked call is said and passes", "access lost under a blocked call: Next did not return"},
		{forgetsHook, ruleTouch, "needs the hook Touch"},
		{excusesHook, passes, "does not apply: pigeonholes cannot be touched"},
		{excusesTooFar, ruleTouch, "every hook is there"},
		{excusesNobody, "", "which is no case"},
		{excusesMutely, "", "gives no reason"},
	} {
		t.Run(string(m.flaw), func(t *testing.T) {
			run := "^TestReference$"
			if m.rule != "" && m.rule != passes {
				run += "/^" + regexp.QuoteMeta(strings.ReplaceAll(m.rule, " ", "_")) + "$"
			}
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run="+run, "-test.v", "-test.timeout=120s")
			cmd.Env = append(os.Environ(), envFlaw+"="+string(m.flaw))
			out, err := cmd.CombinedOutput()
			if !strings.Contains(string(out), "=== RUN   TestReference/") {
				t.Fatalf("no case ran: %v\n%s", err, out)
			}
			if passed := err == nil; passed != (m.rule == passes) {
				t.Errorf("the suite passes: %v\n%s", passed, out)
			}
			if !strings.Contains(string(out), m.reason) {
				t.Errorf("the suite does not say %q:\n%s", m.reason, out)
			}
		})
	}
}
