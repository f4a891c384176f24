package rivals

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hotsvc/svc/internal/load"
)

// smallRestarts is as little as shows that it works.
func smallRestarts() RestartPlan {
	return RestartPlan{
		Restarts: 2, Turns: 1, Gap: 20 * time.Millisecond, Protocol: OverTCP,
		Load: load.Options{Fresh: 2, Busy: 2, Idle: 5, ThinkMin: time.Millisecond, ThinkMax: 300 * time.Millisecond},
	}
}

func mustSystem(t *testing.T, name string) system {
	t.Helper()
	s, ok := systemOf(name)
	if !ok {
		t.Fatalf("there is no %s", name)
	}
	return s
}

// What holds for every system, however many requests it loses.
func checkRestarts(t *testing.T, r restarts, n int) {
	t.Helper()
	if len(r.accepting) != n || len(r.bare) != n || slices.Min(r.accepting) <= 0 || slices.Min(r.bare) <= 0 {
		t.Errorf("%s: %d restarts took %v ms, starts %v ms", r.system.name, n, r.accepting, r.bare)
	}
	answered := r.seen.Fresh.Answered + r.seen.Busy.Answered + r.seen.Idle.Answered
	if min(r.seen.Fresh.Answered, r.seen.Busy.Answered, r.seen.Idle.Answered) == 0 {
		t.Errorf("%s: clients without an answer: %+v", r.system.name, r.seen)
	}
	// Nobody sends anything twice, so that nobody can execute it twice.
	want := load.Executions{Executed: answered + r.executions.Unanswered, Unanswered: r.executions.Unanswered}
	if diff := cmp.Diff(want, r.executions); diff != "" || r.executions.Unanswered > r.seen.Failed() {
		t.Errorf("%s: %d answered, %d failed: %s", r.system.name, answered, r.seen.Failed(), diff)
	}
}

func TestRestartsOfTableflipWithALameDuck(t *testing.T) {
	plan := smallRestarts()
	plan.Restarts, plan.Turns = 5, 2
	plan.Load.Fresh, plan.Load.Busy, plan.Load.Idle = 4, 4, 20
	measured, err := measureRestarts(t.Context(), []system{mustSystem(t, systemLameDuck)}, plan)
	if err != nil {
		t.Fatal(err)
	}
	checkRestarts(t, measured[0], 5)
}

func TestRestartsOverEachProtocol(t *testing.T) {
	for _, p := range []Protocol{OverTLS, OverHTTP2, OverUnix} {
		t.Run(string(p), func(t *testing.T) {
			plan := smallRestarts()
			plan.Protocol = p
			measured, err := measureRestarts(t.Context(), systems(), plan)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range measured {
				checkRestarts(t, m, plan.Restarts)
			}
		})
	}
}

func TestServiceLeavesNothing(t *testing.T) {
	for _, s := range systems() {
		v, err := newService(t.Context(), s, OverUnix)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.start(t.Context()); err != nil {
			t.Fatal(err)
		}
		first := v.pids()
		if _, _, err := v.restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		second := v.pids()
		if len(first) != 1 || len(second) == 0 || second[len(second)-1] == first[0] {
			t.Errorf("%s: processes %v and then %v", s.name, first, second)
		}
		told := errors.New("told")
		if err := v.stop(t.Context(), func() error {
			if _, err := os.Stat(v.record); err != nil {
				t.Error(err)
			}
			if pids := v.pids(); len(pids) != 0 {
				t.Errorf("%s: %v still live", s.name, pids)
			}
			return told
		}); !errors.Is(err, told) || strings.Count(err.Error(), "\n") != 0 {
			t.Errorf("%s: stop: %v", s.name, err)
		}
		if _, err := os.Stat(v.dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the folder is still there: %v", s.name, err)
		}
	}
}

func TestServiceThatDoesNotStart(t *testing.T) {
	v, err := newService(t.Context(), system{name: "none"}, OverTCP)
	if err != nil {
		t.Fatal(err)
	}
	v.cmd.Stderr = nil
	if err := v.start(t.Context()); err == nil || !strings.Contains(err.Error(), "start none: the service has ended") {
		t.Errorf("start: %v", err)
	}
	if err := v.trigger(); err == nil {
		t.Error("a trigger for nobody gave no error")
	}
	if err := v.stop(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("stop: %v", err)
	}
}

// A service whose newest process is killed is no restart, and is not waited for
// without end.
func TestServiceThatDies(t *testing.T) {
	v, err := newService(t.Context(), mustSystem(t, systemTableflip), OverTCP)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	v.system.signal = syscall.SIGKILL
	if err := v.trigger(); err != nil {
		t.Fatal(err)
	}
	if err := v.await(t.Context(), startLimit, func() bool { return false }); err == nil || !strings.Contains(err.Error(), "the service has ended") {
		t.Errorf("await: %v", err)
	}
	if err := v.stop(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("stop: %v", err)
	}
}

// Without who measures, no process goes on.
func TestProcessesEndWithWhoMeasures(t *testing.T) {
	for _, s := range systems() {
		v, err := newService(t.Context(), s, OverTCP)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.start(t.Context()); err != nil {
			t.Fatal(err)
		}
		v.abandon()
		if err := v.await(t.Context(), startLimit, func() bool { return len(v.processes) == 0 && v.waited() }); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
		if err := v.stop(t.Context(), nil); err != nil {
			t.Errorf("%s: stop: %v", s.name, err)
		}
	}
}

func TestRestartsThatCannotBe(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	for name, edit := range map[string]func(*RestartPlan){
		"more turns than restarts": func(p *RestartPlan) { p.Turns = 3 },
		"no turns":                 func(p *RestartPlan) { p.Turns = 0 },
		"no clients":               func(p *RestartPlan) { p.Load = load.Options{} },
		"no such protocol":         func(p *RestartPlan) { p.Protocol = "udp" },
	} {
		plan := smallRestarts()
		edit(&plan)
		if _, err := measureRestarts(t.Context(), []system{mustSystem(t, systemTableflip)}, plan); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "restart-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestGenerationThatCannotBe(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"no JSON": "{", "none": `{"system": "none"}`, "nobody": `{"system": "bare", "control": "` + filepath.Join(dir, "control") + `"}`,
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := serveGeneration(context.Background(), path); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := serveGeneration(context.Background(), filepath.Join(dir, "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// measuredRestarts is one system's figures, made up.
func measuredRestarts(name string, accepting float64, failed uint64) restarts {
	r := restarts{system: system{name: name}, executions: load.Executions{Twice: failed}, probes: failed}
	for i := range 10 {
		r.accepting = append(r.accepting, accepting+float64(i)/10)
		r.bare = append(r.bare, 10+float64(i)/10)
	}
	for _, g := range []*load.Group{&r.seen.Fresh, &r.seen.Busy, &r.seen.Idle} {
		*g = load.Group{Clients: 3, Requests: 100, Answered: 100 - failed, Failures: map[load.Kind]load.Failure{}}
		if failed > 0 {
			g.Failures[load.Status] = load.Failure{Count: failed, Texts: []string{"the answer is 503"}}
		}
	}
	return r
}

func TestRestartRowsSayWhatWasMissed(t *testing.T) {
	for name, c := range map[string]struct {
		accepting float64
		failed    uint64
		met       bool
	}{"met": {20, 0, true}, "missed": {50, 2, false}} {
		t.Run(name, func(t *testing.T) {
			rows, err := restartRows([]restarts{measuredRestarts(serverOurs, c.accepting, c.failed), measuredRestarts(systemTableflip, 20, 7)}, 1)
			if err != nil {
				t.Fatal(err)
			}
			report := &Report{Rows: rows}
			var met, figures []string
			for _, row := range report.Rows {
				checkRow(t, row)
				if row.Met != nil {
					met = append(met, row.What)
					if *row.Met != c.met {
						t.Errorf("%s: met is %v", row.What, *row.Met)
					}
				}
				if row.Ours.Unit == unitRequests {
					figures = append(figures, row.Ours.String())
				}
			}
			if diff := cmp.Diff([]string{
				"fresh connections that fail in restarts, svc, of " + map[bool]string{true: "100", false: "102"}[c.met],
				"busy POSTs that fail in restarts, svc, of 100",
				"POSTs after a pause that fail in restarts, svc, of 100",
				"POSTs executed or answered twice in restarts, svc, of 300",
				"trigger to accepting, svc",
				"trigger to accepting, beside tableflip",
			}, met); diff != "" {
				t.Errorf("judged: %s", diff)
			}
			want := []string{"0 requests", "0 requests", "0 requests", "0 requests"}
			if !c.met {
				want = []string{"4 requests", "2 requests", "2 requests", "2 requests"}
			}
			if diff := cmp.Diff(append(want, "14 requests", "7 requests", "7 requests", "7 requests"), figures); diff != "" {
				t.Errorf("figures: %s", diff)
			}
		})
	}
	if _, err := restartRows([]restarts{{}}, 1); err == nil {
		t.Error("no restarts gave no error")
	}
}

func TestRestartNoteNamesFailures(t *testing.T) {
	note := measuredRestarts(systemTableflip, 20, 7).note()
	for _, want := range []string{
		"tableflip, 10 restarts:", `fresh: 7 of 100 failed (7 status, such as "the answer is 503")`, "7 probes failed", "accepting after p50 20.4, p99 20.9 ms", "executed twice 7,",
	} {
		if !strings.Contains(note, want) {
			t.Errorf("%q is not in %s", want, note)
		}
	}
}
