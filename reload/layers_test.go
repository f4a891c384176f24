package reload

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hotsvc/svc/configsrc"
)

func TestLayers(t *testing.T) {
	low, high := newMemory(t, "timeout: 1s\nlisten: [a, b, c]\n"), newMemory(t, "listen: [d]\n")
	set := configsrc.Values{"timeout": {Raw: "9s", Origin: configsrc.Origin{Source: "set", Name: "--set timeout"}}}
	m, err := New(Options[settings]{Default: defaults, Layers: []Layer{
		{Name: "low", Source: low}, {Name: "high", Source: high}, {Name: "set", Values: set},
	}})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{Manager: m, source: high}
	r.start(t)
	c := m.Load().Config
	if c.Timeout != 9*time.Second || !slices.Equal(c.Listen, []string{"d"}) {
		t.Errorf("config %+v", c)
	}
	for _, s := range m.Settings() {
		if s.Key == "timeout" && (s.Origin.String() != "--set timeout" || len(s.Shadows) != 1 || s.Shadows[0].Line != 1) {
			t.Errorf("origin of timeout: %+v", s)
		}
		if s.Key == "listen" && (s.Origin.Line != 1 || len(s.Shadows) == 0) {
			t.Errorf("origin of listen: %+v", s)
		}
		if s.Key == "workers" && s.Origin.Source != OriginDefault {
			t.Errorf("origin of workers: %+v", s)
		}
	}
	// One source gone: the other one is still followed.
	low.fail(nil, "")
	want(t, r.reload(t, "listen: [d]\npublic: {x: 1}\n"), Failed) // low did not answer the request
	if m.Load().Config.Public["x"] != int64(1) {
		t.Error("a source that is gone held up the other")
	}
	if _, err := New(Options[settings]{Default: defaults, Layers: []Layer{{Name: "set", Values: set}, {Name: "s", Source: low}}}); err == nil {
		t.Error("a source above a fixed layer was taken")
	}
}

func TestReloadAppliesWhatSeveralSourcesPublishedAsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Neither half is valid by itself.
		r, low, high := newPairOfSources(t, "pair: {a: 1}\n", "pair: {b: 1}\n", nil)
		r.start(t)
		synctest.Wait() // both wait for news, which nobody tells them
		low.replace(t, "pair: {a: 2}\n")
		high.replace(t, "pair: {b: 2}\n")
		want(t, r.reread(t), Applied)
		if p := r.Load().Config.Pair; p.A != 2 || p.B != 2 || len(r.History()) != 2 {
			t.Errorf("pair %+v, history %+v", p, r.History())
		}
	})
}

// TestReloadTellsTheWorstOfItsSources: whichever source answers last.
func TestReloadTellsTheWorstOfItsSources(t *testing.T) {
	for _, c := range []struct {
		name      string
		low, high error // nil: the source can be read
		want      Outcome
	}{
		{"both well", nil, nil, Unchanged},
		{"low gone", configsrc.ErrNotFound, nil, Failed},
		{"high gone", nil, configsrc.ErrNotFound, Failed},
		{"low broken, high gone", configsrc.ErrInvalid, configsrc.ErrNotFound, Refused},
		{"low gone, high broken", configsrc.ErrNotFound, configsrc.ErrInvalid, Refused},
	} {
		for _, lowLast := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, low last %v", c.name, lowLast), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r, low, high := newPairOfSources(t, pairYAML(1), "timeout: 2s\n", nil)
					if lowLast {
						low.delay = 50 * time.Millisecond
					} else {
						high.delay = 50 * time.Millisecond
					}
					r.start(t)
					for source, kind := range map[*memory]error{low: c.low, high: c.high} {
						if kind != nil {
							source.fail(kind, "state")
						}
					}
					time.Sleep(time.Second)
					want(t, r.reread(t), c.want)
				})
			})
		}
	}
}

func TestPartOfTheSourcesIsNotApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		inDir := func(o *Options[settings]) { o.StateDir = dir }
		before, _, _ := newPairOfSources(t, pairYAML(1), "timeout: 2s\n", inDir)
		stop := before.start(t)
		stop()
		r, low, high := newPairOfSources(t, pairYAML(1), "timeout: 2s\n", inDir)
		low.fail(configsrc.ErrNotFound, "gone")
		r.start(t)
		high.publish(t, "timeout: 3s\n")
		synctest.Wait()
		if c := r.Load().Config; c.Pair.A != 1 || c.Timeout != 2*time.Second || r.Status().Fallback == "" {
			t.Errorf("config %+v, status %+v: applied without the lower source", c, r.Status())
		}
		low.publish(t, pairYAML(4))
		synctest.Wait()
		if c := r.Load().Config; c.Pair.A != 4 || c.Timeout != 3*time.Second || r.Status().Fallback != "" {
			t.Errorf("config %+v, status %+v", c, r.Status())
		}
	})
}
