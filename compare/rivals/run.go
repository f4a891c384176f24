package rivals

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/hotsvc/svc/internal/load"
)

// Plan says how much is measured.
type Plan struct {
	Keys         int           // of the documents
	ReadRounds   int           // in which each library reads
	ReadTurn     time.Duration // of one library in a round
	ReloadRounds int           // in which each library reloads once
	// OneSectionRounds is the same with all keys in one section.
	OneSectionRounds int
	ReaderPairs      int           // of runs with and without reloads
	ReaderRun        time.Duration // the length of one such run
	Edits            int           // of the file
	Quiet            time.Duration // for the file's layer
	Dir              string        // where the file is edited
	Seed             uint64        // for the intervals and the pauses between edits
	Serve            ServePlan
	Restarts         RestartPlan
	// Only is the one step that is measured; "" is all.
	Only string
}

// FullPlan is what the targets are judged by. It takes about ten minutes. The
// file is edited in dir.
func FullPlan(dir string, seed uint64) Plan {
	return Plan{
		Keys:       10_000,
		ReadRounds: 30, ReadTurn: 20 * time.Millisecond,
		ReloadRounds: 30, OneSectionRounds: 11,
		ReaderPairs: 16, ReaderRun: 500 * time.Millisecond,
		Edits: 300, Quiet: 300 * time.Millisecond,
		Dir: dir, Seed: seed,
		Serve: ServePlan{
			Conns: 16, Pairs: 30, Requests: 1000,
			PacePairs: 16, PaceRun: time.Second, Interval: 8 * time.Millisecond,
			Idle:    9000,
			H2Conns: 200, H2Turns: 3, H2Turn: 4 * time.Second,
		},
		Restarts: RestartPlan{
			Restarts: 200, Turns: 4, Gap: 200 * time.Millisecond, Protocol: OverTCP,
			Load: load.Options{Fresh: 8, Busy: 16, Idle: 200, ThinkMin: time.Millisecond, ThinkMax: 5 * time.Second, Seed: seed},
		},
	}
}

// The targets.
const (
	targetRead   = 1.5 // ns, and no allocation
	targetReload = 50  // ms
	targetEdit   = 50  // ms above the quiet time
)

// StepRestarts is the step that restarts servers, for [Plan].Only.
const StepRestarts = "restarts"

// Run measures everything, one after the other, and tells progress before each
// step. A target that is missed is no error; an error is that something did not
// work, or that ctx ended.
func Run(ctx context.Context, plan Plan, progress func(step string)) (report *Report, err error) {
	began := time.Now()
	libs, err := openLibraries(ctx, plan.Keys, section)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, libs.close()) }()
	servers, err := startChild(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, servers.close()) }()
	report = &Report{Machine: thisMachine(), Seed: plan.Seed}
	serving := func(add func(context.Context, *child, Plan) error) func(context.Context, libraries, Plan) error {
		return func(ctx context.Context, _ libraries, plan Plan) error { return add(ctx, servers, plan) }
	}
	for _, step := range []struct {
		name string
		add  func(context.Context, libraries, Plan) error
	}{
		{"one setting read", report.addReads},
		{"reloads", report.addReloads},
		{"readers during reloads", report.addReaders},
		{"edits of a file", report.addEdits},
		{"requests", serving(report.addRequests)},
		{"requests during reloads", serving(report.addReloading)},
		{"idle connections", serving(report.addIdle)},
		{"the end of HTTP/2 connections", serving(report.addGoAway)},
		{StepRestarts, func(ctx context.Context, _ libraries, plan Plan) error { return report.addRestarts(ctx, plan) }},
	} {
		if plan.Only != "" && plan.Only != step.name {
			continue
		}
		progress(step.name)
		if err := step.add(ctx, libs, plan); err != nil {
			return nil, fmt.Errorf("measure %s: %w", step.name, err)
		}
	}
	report.Seconds = time.Since(began).Seconds()
	return report, nil
}

func (r *Report) addReads(ctx context.Context, libs libraries, plan Plan) error {
	measured, err := measureReads(ctx, append(libs.all(), libs.pinned), plan.ReadRounds, plan.ReadTurn)
	if err != nil {
		return err
	}
	figure := func(m reads) Figure {
		return Figure{Name: m.library.title(), Value: median(m.ns), Unit: "ns", Allocs: &m.allocs}
	}
	ours, rivals, pinned := measured[0], measured[1:len(measured)-1], measured[len(measured)-1]
	for _, rival := range rivals {
		ratio, err := compare(ours.ns, rival.ns, plan.Seed)
		if err != nil {
			return err
		}
		beside := figure(rival)
		r.Rows = append(r.Rows, Row{
			What: "read one setting", Ours: figure(ours), Rival: &beside, Ratio: ratio,
			Target: fmt.Sprintf("<= %v ns, 0 allocs", targetRead),
			Met:    new(median(ours.ns) <= targetRead && ours.allocs == 0),
		})
	}
	r.Rows = append(r.Rows, Row{What: "the same under a lease (Pin, From, release)", Ours: figure(pinned)})
	r.Notes = append(r.Notes, fmt.Sprintf("Reads: %d rounds of reads one after the other, medians; %s in a document of %d keys. Ours is a field of the typed value, "+
		"the loop around it included. The others look the key up and convert its text each time; who copies their "+
		"values into a struct and swaps that by hand reads as fast as ours.", plan.ReadRounds, setting, plan.Keys))
	return nil
}

func (r *Report) addReloads(ctx context.Context, libs libraries, plan Plan) (err error) {
	what := fmt.Sprintf("reload %d keys, YAML text to effect", plan.Keys)
	if err := r.addReloadRows(ctx, what, libs, plan.ReloadRounds, plan.Seed); err != nil {
		return err
	}
	flat, err := openLibraries(ctx, plan.Keys, plan.Keys)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, flat.close()) }()
	r.Notes = append(r.Notes, fmt.Sprintf("Reloads: %d rounds, medians; sections of %d keys (in one section: %d rounds); every value differs "+
		"from the one before. Ours: the text is published through a source in memory, parsed with the line of each key, bounded, hashed, "+
		"merged, decoded into the config type, validated, compared with the content in force key by key, swapped; the history entry is made "+
		"after the effect (no state folder). viper: ReadConfig into a new instance; koanf: Load into a new instance; both parse and fill "+
		"maps, no more, and are swapped by a pointer. The YAML package under both compares each key of a section with every other one.",
		plan.ReloadRounds, section, plan.OneSectionRounds))
	return r.addReloadRows(ctx, "the same, all keys in one section", flat, plan.OneSectionRounds, plan.Seed)
}

func (r *Report) addReloadRows(ctx context.Context, what string, libs libraries, rounds int, seed uint64) error {
	measured, err := measureReloads(ctx, libs.all(), rounds)
	if err != nil {
		return err
	}
	for i, rival := range libs.rivals {
		ours, theirs := measured[0], measured[i+1]
		ratio, err := compare(ours, theirs, seed)
		if err != nil {
			return err
		}
		r.Rows = append(r.Rows, Row{
			What: what, Ours: Figure{Name: libs.ours.title(), Value: median(ours), Unit: "ms"},
			Rival: &Figure{Name: rival.title(), Value: median(theirs), Unit: "ms"}, Ratio: ratio,
			Target: fmt.Sprintf("<= %d ms", targetReload), Met: new(median(ours) <= targetReload),
		})
	}
	return nil
}

func (r *Report) addReaders(ctx context.Context, libs libraries, plan Plan) error {
	quiet, busy, err := measureReaders(ctx, libs, plan.ReaderPairs, plan.ReaderRun)
	if err != nil {
		return err
	}
	p99 := func(run readersRun) float64 { return run.p99 }
	slowest := func(run readersRun) float64 { return run.max }
	what := fmt.Sprintf("p99 of %d reads during reloads", unit)
	rows := []struct {
		what, beside string
		rival        []readersRun
		of           func(readersRun) float64
	}{
		{what, "ours without reloads", quiet, p99},
		{fmt.Sprintf("slowest %d reads of a run during reloads", unit), "ours without reloads", quiet, slowest},
	}
	for i, rival := range libs.rivals {
		rows = append(rows, rows[0])
		last := &rows[len(rows)-1]
		last.beside, last.rival = rival.title()+" during reloads", busy[i+1]
	}
	for _, row := range rows {
		ours, theirs := pick(busy[0], row.of), pick(row.rival, row.of)
		ratio, err := compare(ours, theirs, plan.Seed)
		if err != nil {
			return err
		}
		r.Rows = append(r.Rows, Row{
			What: row.what, Ours: Figure{Name: libs.ours.title(), Value: median(ours), Unit: "ns"},
			Rival: &Figure{Name: row.beside, Value: median(theirs), Unit: "ns"}, Ratio: ratio,
		})
	}
	r.Notes = append(r.Notes, fmt.Sprintf("Readers: %d rounds of runs of %v, one after the other: ours without reloads, ours with, each rival with; "+
		"medians of the runs. Reloads of %d keys follow each other without a pause (ours: %.0f in a run). Readers read as fast as they can on all "+
		"processors but one, so a pause counts as one slow unit, however long: the slowest shows it, the p99 does not.",
		plan.ReaderPairs, plan.ReaderRun, plan.Keys, median(pick(busy[0], func(run readersRun) float64 { return float64(run.reloads) }))))
	return nil
}

func pick(runs []readersRun, of func(readersRun) float64) []float64 {
	out := make([]float64, len(runs))
	for i, run := range runs {
		out[i] = of(run)
	}
	return out
}

func (r *Report) addEdits(ctx context.Context, libs libraries, plan Plan) error {
	took, err := measureEdits(ctx, plan.Dir, plan.Edits, plan.Quiet, plan.Seed)
	if err != nil {
		return err
	}
	target := milliseconds(plan.Quiet) + targetEdit
	for _, p := range []float64{50, 99} {
		value := quantile(took, p/100)
		r.Rows = append(r.Rows, Row{
			What: fmt.Sprintf("edit of a file to effect, p%.0f", p), Ours: Figure{Name: libs.ours.title(), Value: value, Unit: "ms"},
			Target: fmt.Sprintf("<= %v ms", target), Met: new(value <= target),
		})
	}
	above := quantile(took, 1) - milliseconds(plan.Quiet)
	r.Notes = append(r.Notes, fmt.Sprintf("Edits: %d renames over a file of %d keys that configsrc/file follows, from just before the rename to the "+
		"call of a subscriber; %v of it is the quiet time. The longest was %.0f ms above that.", plan.Edits, editedKeys, plan.Quiet, math.Ceil(above)))
	return nil
}
