package reload

import (
	"errors"
	"math/big"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hotsvc/svc/configsrc"
)

func TestPlan(t *testing.T) {
	r := newRig(t, "timeout: 1s\ntoken: hush\n", nil)
	r.start(t)
	values, err := configsrc.Flatten(configsrc.YAML, []byte("timeout: 2s\nlisten: [a, b]\ntoken: other\n"), configsrc.Origin{}, configsrc.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.Plan(values)
	if err != nil {
		t.Fatal(err)
	}
	if p.Action != ActionRestart || len(p.Changes) != 3 {
		t.Fatalf("plan %+v", p)
	}
	for i, w := range []Change{
		{Key: "listen", Effect: ActionRestart},
		{Key: "timeout", Old: "1s", New: "2s", Effect: ActionInPlace},
		{Key: "token", Old: maskedValue, New: maskedValue, Effect: ActionInPlace},
	} {
		got := p.Changes[i]
		if got.Key != w.Key || got.Effect != w.Effect || w.Old != nil && (got.Old != w.Old || got.New != w.New) {
			t.Errorf("change %d: %+v, want %+v", i, got, w)
		}
	}
	if r.Load().Config.Timeout != time.Second {
		t.Error("a plan changed something")
	}
	if p, err := r.Plan(nil); err != nil || len(p.Changes) != 0 {
		t.Errorf("plan of the present content: %+v, %v", p, err)
	}
	values["timeout"] = configsrc.Value{Raw: "never"}
	if _, err := r.Plan(values); !errors.Is(err, configsrc.ErrInvalid) {
		t.Errorf("plan of a bad content: %v", err)
	}
}

func TestPlanPutsTheValuesInPlaceOfTheTopSource(t *testing.T) {
	r, _, _ := newPairOfSources(t, "timeout: 1s\nworkers: 2\n", "timeout: 2s\n", nil)
	r.start(t)
	p, err := r.Plan(testValues(t, "timeout: 3s\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Changes) != 1 || p.Changes[0].Key != "timeout" || p.Changes[0].Old != "2s" || p.Changes[0].New != "3s" {
		t.Errorf("plan %+v", p)
	}
}

func TestPlanOfSourcesThatGaveNothing(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	saveLastGood(t, s, 7)
	r := newRig(t, "", func(o *Options[settings]) { o.StateDir = dir })
	r.source.fail(configsrc.ErrNotFound, "gone")
	r.start(t)
	if p, err := r.Plan(nil); err == nil || !strings.Contains(err.Error(), "source memory has given no content yet") {
		t.Errorf("plan %+v, %v", p, err)
	}
	if p, err := r.Plan(testValues(t, pairYAML(8))); err != nil || len(p.Changes) == 0 {
		t.Errorf("plan of a content at hand: %+v, %v", p, err)
	}
}

func TestPlanSeesChangesOfTextTypes(t *testing.T) {
	type conf struct {
		Pattern *regexp.Regexp `config:"pattern"`
		Big     big.Int        `config:"big"` // only its pointer has MarshalText
	}
	m := newManager(t, Options[conf]{Layers: []Layer{{Name: "memory", Source: newMemory(t, "pattern: a+\nbig: \"1\"\n")}}})
	startManager(t, m)
	p, err := m.Plan(testValues(t, "pattern: b+\nbig: \"2\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if p.Action != ActionRestart || len(p.Changes) != 2 || p.Changes[0].New != "2" || p.Changes[1].New != "b+" {
		t.Errorf("plan %+v", p)
	}
}

// panicky is a config whose check trips over some of its values.
type panicky struct {
	N int `config:"n" reload:"live"`
}

func (p *panicky) Validate() error {
	_ = []int{1, 2}[p.N]
	return nil
}

func TestPanicInACheckIsARefusal(t *testing.T) {
	source := newMemory(t, "n: 1\n")
	m := newManager(t, Options[panicky]{Layers: []Layer{{Name: "memory", Source: source}}})
	startManager(t, m)
	_, err := m.Plan(testValues(t, "n: 9\n"))
	if !errors.Is(err, configsrc.ErrInvalid) || !strings.Contains(err.Error(), "panicked") {
		t.Errorf("Plan: %v", err)
	}
	source.replace(t, "n: 9\n")
	e, err := m.Reload(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want(t, e, Refused)
	if m.Load().Config.N != 1 {
		t.Errorf("in force is %+v", m.Load().Config)
	}
}

// TestCheckWhileContentChanges: checks build and close beside the changes, and
// all that they built is closed.
func TestCheckWhileContentChanges(t *testing.T) {
	r := newRig(t, pairYAML(1), nil)
	var open atomic.Int64
	registerPool(r, "pool", &open, func() error { return nil })
	stop := r.start(t)
	var checks sync.WaitGroup
	for range 3 {
		checks.Go(func() {
			for n := range 100 {
				if _, err := r.Check(t.Context(), testValues(t, pairYAML(n))); err != nil {
					t.Errorf("Check: %v", err)
				}
			}
		})
	}
	for n := range 50 {
		want(t, r.reload(t, pairYAML(n+2)), Applied)
	}
	checks.Wait()
	stop()
	if n := open.Load(); n != 0 {
		t.Errorf("%d pools open at the end", n)
	}
}
