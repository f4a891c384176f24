package load

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRecordOfManyWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "record")
	const writers, each = 4, 500
	var running sync.WaitGroup
	for i := range writers {
		r, err := OpenRecord(path) // a description of its own, as another process has
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() {
			for n := range each {
				if err := r.Add(uint64(i*each + n + 1)); err != nil {
					t.Error(err)
				}
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			if err := r.Add(1); err == nil {
				t.Error("a write into a closed record gave no error")
			}
		})
	}
	running.Wait()
	var all ids
	n := 0
	if err := ReadRecord(path, func(id uint64) {
		if !all.add(id) {
			t.Errorf("%d is there twice", id)
		}
		n++
	}); err != nil {
		t.Fatal(err)
	}
	if n != writers*each || !all.has(1) || !all.has(writers*each) || all.has(0) || all.has(writers*each+1) || all.has(1<<40) {
		t.Errorf("%d entries", n)
	}
}

func TestExecutionsSayWhatIsWrong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "record")
	r, err := OpenRecord(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []uint64{1, 2, 2, 2, 3, 0, 7} {
		if err := r.Add(id); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	l := &Load{last: 6}
	for _, id := range []uint64{1, 2, 5} {
		l.answered.add(id)
	}
	got, err := l.Executions(path)
	if err != nil {
		t.Fatal(err)
	}
	want := Executions{Executed: 3, Twice: 1, Unanswered: 1, Missing: 1, Unknown: 2}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got.Add(want)
	if diff := cmp.Diff(Executions{6, 2, 2, 2, 4}, got); diff != "" {
		t.Error(diff)
	}
	if err := os.Truncate(path, recordSize+3); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Executions(path); err == nil {
		t.Error("half an entry gave no error")
	}
	if _, err := l.Executions(path + "none"); err == nil {
		t.Error("no record gave no error")
	}
	if _, err := OpenRecord(filepath.Join(path, "none")); err == nil {
		t.Error("a record that cannot be made gave no error")
	}
}

func TestResultsAddUp(t *testing.T) {
	one := Result{Fresh: newGroup(1), Busy: newGroup(2), Idle: newGroup(3)}
	for range 4 {
		one.Busy.fail(&failure{Status, os.ErrClosed})
	}
	one.Busy.Requests, one.Busy.Answered, one.Busy.Told, one.Idle.Ended, one.Idle.Kept = 6, 2, 1, 5, 3
	_ = one.Idle.latency.RecordValue(2000)
	var sum Result
	sum.Add(one)
	sum.Add(one)
	sum.Add(Result{})
	if sum.Failed() != 8 || sum.Of(Status) != 8 || sum.Requests() != 12 || sum.Busy.Told != 2 || sum.Idle.Ended != 10 || sum.Idle.Kept != 6 || sum.Idle.Clients != 6 {
		t.Errorf("%+v", sum)
	}
	if f := one.Busy.Failures[Status]; f.Count != 4 || len(f.Texts) != maxTexts || len(sum.Busy.Failures[Status].Texts) != maxTexts {
		t.Errorf("%+v", f)
	}
	if got := sum.Idle.Latency(0.5).Round(100 * time.Microsecond); got != 2*time.Millisecond {
		t.Errorf("latency %v", got)
	}
	if got := (Group{}).Latency(0.5); got != 0 {
		t.Errorf("latency of nothing %v", got)
	}
}
