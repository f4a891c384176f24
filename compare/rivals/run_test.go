package rivals

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// smallPlan runs everything, in as little time as it takes.
func smallPlan(t *testing.T) Plan {
	t.Helper()
	return Plan{
		Keys: 50, ReadRounds: 3, ReadTurn: time.Millisecond, ReloadRounds: 3, OneSectionRounds: 2,
		ReaderPairs: 2, ReaderRun: 10 * time.Millisecond,
		Edits: 3, Quiet: 20 * time.Millisecond, Dir: t.TempDir(), Seed: 1,
		Serve: ServePlan{
			Conns: 4, Pairs: 2, Requests: 200,
			PacePairs: 2, PaceRun: 200 * time.Millisecond, Interval: 10 * time.Millisecond,
			Idle: 50, H2Conns: 50, H2Turns: 1, H2Turn: time.Second,
		},
		Restarts: smallRestarts(),
	}
}

func TestRunMeasuresEverything(t *testing.T) {
	plan := smallPlan(t)
	var steps []string
	report, err := Run(t.Context(), plan, func(step string) { steps = append(steps, step) })
	if err != nil {
		t.Fatal(err)
	}
	if len(steps) != 9 || len(report.Notes) != len(steps)+len(systems()) {
		t.Errorf("steps %q and %d notes, want 9, and one for each system besides", steps, len(report.Notes))
	}
	var names []string
	const librariesRows = 13 // those of reads, reloads and edits
	for i, row := range report.Rows {
		name := row.What
		name, _, _ = strings.Cut(name, ", of ") // how many there were
		if row.Rival != nil {
			beside := row.Rival.Name
			if i < librariesRows || strings.HasPrefix(row.Rival.Name, systemTableflip) {
				beside, _, _ = strings.Cut(beside, " ") // its version
			}
			name += " / " + beside
		}
		names = append(names, name)
		checkRow(t, row)
	}
	if diff := cmp.Diff([]string{
		"read one setting / viper",
		"read one setting / koanf",
		"the same under a lease (Pin, From, release)",
		"reload 50 keys, YAML text to effect / viper",
		"reload 50 keys, YAML text to effect / koanf",
		"the same, all keys in one section / viper",
		"the same, all keys in one section / koanf",
		"p99 of 100 reads during reloads / ours",
		"slowest 100 reads of a run during reloads / ours",
		"p99 of 100 reads during reloads / viper",
		"p99 of 100 reads during reloads / koanf",
		"edit of a file to effect, p50",
		"edit of a file to effect, p99",
		"CPU of a request: GET / gin",
		"CPU of a request: POST of 1 KiB / gin",
		"CPU of a request: GET over TLS / gin, TLS",
		"the same GET, ours with metrics / gin",
		"p99 of a request during reloads / svc without reloads",
		"a change of the idle timeout with 50 idle connections, median",
		"a change of the idle timeout with 50 idle connections, longest",
		"p99 of a request with such a change / svc without changes",
		"POSTs that fail when an idle HTTP/2 connection ends",
		"the same with the IdleTimeout of net/http",
		"fresh connections that fail in restarts, svc",
		"busy POSTs that fail in restarts, svc",
		"POSTs after a pause that fail in restarts, svc",
		"POSTs executed or answered twice in restarts, svc",
		"trigger to accepting, svc / a bare start",
		"the same, p99, svc",
		"trigger to accepting, beside tableflip / tableflip",
		"fresh connections that fail in restarts, tableflip",
		"busy POSTs that fail in restarts, tableflip",
		"POSTs after a pause that fail in restarts, tableflip",
		"POSTs executed or answered twice in restarts, tableflip",
		"trigger to accepting, tableflip / a bare start",
		"the same, p99, tableflip",
		"fresh connections that fail in restarts, tableflip-lameduck",
		"busy POSTs that fail in restarts, tableflip-lameduck",
		"POSTs after a pause that fail in restarts, tableflip-lameduck",
		"POSTs executed or answered twice in restarts, tableflip-lameduck",
		"trigger to accepting, tableflip-lameduck / a bare start",
		"the same, p99, tableflip-lameduck",
	}, names); diff != "" {
		t.Errorf("rows: %s", diff)
	}
	if allocs := report.Rows[0].Ours.Allocs; allocs == nil || *allocs != 0 {
		t.Errorf("a read of ours allocates: %v", report.Rows[0].Ours)
	}
	for _, row := range report.Rows[:2] {
		if row.Rival.Allocs == nil || *row.Rival.Allocs <= 0 {
			t.Errorf("%s: the allocations of %s were not counted", row.What, row.Rival.Name)
		}
	}
	for _, row := range report.Rows[librariesRows-2 : librariesRows] {
		if quiet := milliseconds(plan.Quiet); row.Ours.Value < quiet {
			t.Errorf("%s: %v ms, which is less than the quiet time of %v ms", row.What, row.Ours.Value, quiet)
		}
	}
	if report.Machine.CPU == "" || report.Machine.Cores < 1 || report.Machine.Go == "" || !(report.Seconds > 0) {
		t.Errorf("machine %+v, %v s", report.Machine, report.Seconds)
	}
}

func checkRow(t *testing.T, row Row) {
	t.Helper()
	positive := func(what string, v float64) {
		t.Helper()
		if !(v > 0) || math.IsInf(v, 0) {
			t.Errorf("%s: %s is %v", row.What, what, v)
		}
	}
	if row.Ours.Unit != "%" && row.Ours.Unit != unitRequests { // of failures: none is the best there is
		positive("ours", row.Ours.Value)
	}
	if (row.Rival == nil) != (row.Ratio == nil) {
		t.Errorf("%s: a rival without a ratio, or a ratio without a rival", row.What)
	}
	if row.Rival != nil {
		positive("the rival", row.Rival.Value)
		positive("the low bound", row.Ratio.Low)
		if row.Ratio.Low > row.Ratio.Median || row.Ratio.Median > row.Ratio.High {
			t.Errorf("%s: interval %+v", row.What, *row.Ratio)
		}
	}
	if (row.Target == "") != (row.Met == nil) {
		t.Errorf("%s: target %q is not judged, or judged without a target", row.What, row.Target)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	for _, after := range []string{
		"one setting read", "reloads", "readers during reloads", "edits of a file",
		"requests", "requests during reloads", "idle connections", "the end of HTTP/2 connections", StepRestarts,
	} {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := Run(ctx, smallPlan(t), func(step string) {
			if step == after {
				cancel()
			}
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("ended before %q: %v, want that the context was canceled", after, err)
		}
		cancel()
	}
}

// Every document has as many keys as it says and is what each library shows
// after a reload.
func TestReloadIsSeenByReaders(t *testing.T) {
	const keys = 20
	libs, err := openLibraries(t.Context(), keys, 7)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := libs.close(); err != nil {
			t.Error(err)
		}
	}()
	for _, l := range libs.all() {
		for _, want := range []time.Duration{1001 * time.Millisecond, time.Second} {
			took, err := l.reload(t.Context())
			if err != nil || took <= 0 {
				t.Errorf("reload %s: %v, %v", l.name, took, err)
			}
			if got := l.read(1); got != want {
				t.Errorf("%s reads %v, want %v", l.name, got, want)
			}
			if got := l.read(3); got != 3*want {
				t.Errorf("%s: the sum of 3 reads is %v, want %v", l.name, got, 3*want)
			}
		}
	}
	if got := libs.pinned.read(2); got != 2*time.Second {
		t.Errorf("the sum of 2 reads under a lease is %v, want 2s", got)
	}
}

func TestReloadThatNobodySees(t *testing.T) {
	l := &library{
		name: "idle", read: func(int) time.Duration { return time.Second },
		load:      func(context.Context, document) (time.Duration, error) { return 1, nil },
		documents: [2]document{{timeout: time.Second}, {timeout: time.Minute}},
	}
	if _, err := l.reload(t.Context()); err != nil {
		t.Errorf("the value in force was loaded: %v", err)
	}
	if _, err := l.reload(t.Context()); !errors.Is(err, errNotRead) {
		t.Errorf("a load without effect: %v, want %v", err, errNotRead)
	}
}

func TestDocumentHasItsKeys(t *testing.T) {
	for _, keys := range []int{1, 2, 10_000} {
		a, b := newMemory(newDocument(keys, section, time.Second).text), newMemory(newDocument(keys, section, 2*time.Second).text)
		first, err := a.Next(t.Context(), b.snapshot.Version)
		if err != nil {
			t.Fatal(err)
		}
		second, err := b.Next(t.Context(), first.Version)
		if err != nil {
			t.Fatal(err)
		}
		if len(first.Values) != keys || len(second.Values) != keys {
			t.Errorf("%d and %d keys, want %d", len(first.Values), len(second.Values), keys)
		}
		for k, v := range first.Values {
			if second.Values[k].Raw == v.Raw {
				t.Fatalf("%s is the same in both", k)
			}
		}
	}
}

func TestMemoryWaitsForOtherContent(t *testing.T) {
	d := newDocument(3, section, time.Second)
	s := newMemory(d.text)
	first, err := s.Next(t.Context(), s.snapshot.Version)
	if err != nil {
		t.Fatal(err)
	}
	s.publish(d.text)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.Next(ctx, first.Version); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the same text again: %v, want that the call waits", err)
	}
	s.publish(newDocument(3, section, time.Minute).text)
	second, err := s.Next(t.Context(), first.Version)
	if err != nil || second.Version == first.Version {
		t.Errorf("another text: %v, or the version before", err)
	}
	s.publish([]byte("a: [")) // no YAML
	if _, err := s.Next(t.Context(), second.Version); err == nil {
		t.Error("a text that does not parse gave no error")
	}
}

func TestTableSaysWhatWasMissed(t *testing.T) {
	report := &Report{
		Machine: Machine{CPU: "A CPU", Cores: 2, Scheduled: 2, Go: "go1", OS: "linux", Arch: "amd64"}, Seed: 7, Seconds: 12,
		Rows: []Row{
			{What: "a", Ours: Figure{Value: 1.25, Unit: "ns", Allocs: new(0.0)}, Target: "<= 1 ns", Met: new(false)},
			{
				What: "b", Ours: Figure{Value: 12.34, Unit: "ms"}, Rival: &Figure{Name: "them 1.0", Value: 2345.6, Unit: "ms", Allocs: new(3.0)},
				Ratio: &Interval{0.00526, 0.005, 0.006}, Target: "<= 50 ms", Met: new(true),
			},
			{What: "c", Ours: Figure{Value: 3, Unit: "ns"}},
		},
		Notes: []string{"a note"},
	}
	var b bytes.Buffer
	if err := report.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	want := `A CPU, 2 cores, GOMAXPROCS 2, go1 linux/amd64; 12 s, seed 7

| what | ours              | rival                       | ratio [95 % interval]  | target   | met    |
| ---  | ---               | ---                         | ---                    | ---      | ---    |
| a    | 1.25 ns, 0 allocs | -                           | -                      | <= 1 ns  | missed |
| b    | 12.3 ms           | them 1.0: 2346 ms, 3 allocs | 0.00526 [0.005, 0.006] | <= 50 ms | yes    |
| c    | 3.00 ns           | -                           | -                      | -        | -      |

- a note
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
	data, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(*report, back); diff != "" {
		t.Errorf("JSON does not hold all of it: %s", diff)
	}
}

func TestFigureHasAUnitThatSuits(t *testing.T) {
	for want, f := range map[string]Figure{
		"0.95 ns":           {Value: 0.951, Unit: "ns"},
		"999.0 ns":          {Value: 999, Unit: "ns"},
		"1.00 µs":           {Value: 1000, Unit: "ns"},
		"23.7 ms":           {Value: 23_715_839, Unit: "ns"},
		"1246 ms":           {Value: 1246.4, Unit: "ms"},
		"5.00 ns, 2 allocs": {Value: 5, Unit: "ns", Allocs: new(2.0)},
	} {
		if got := f.String(); got != want {
			t.Errorf("%v %s is shown as %q, want %q", f.Value, f.Unit, got, want)
		}
	}
}

type closedWriter struct{}

func (closedWriter) Write([]byte) (int, error) { return 0, errors.New("closed") }

func TestTableReportsTheWriter(t *testing.T) {
	if err := new(Report).WriteTable(closedWriter{}); err == nil {
		t.Error("a writer that fails gave no error")
	}
}
