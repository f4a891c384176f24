package reload

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hotsvc/svc/configsrc"
)

func TestStartAppliesTheSourcesOverTheDefaults(t *testing.T) {
	r := newRig(t, "timeout: 3s\npublic: {greeting: hi}\n", nil)
	r.start(t)
	c := r.Load().Config
	if c.Timeout != 3*time.Second || c.Workers != 4 || c.Public["greeting"] != "hi" {
		t.Errorf("config %+v", c)
	}
	st := r.Status()
	if st.Last.Outcome != Applied || st.Revision != r.Load().ID || st.Last.Trigger != TriggerStart {
		t.Errorf("status %+v", st)
	}
}

func TestColdStart(t *testing.T) {
	prepare := func(t *testing.T) string {
		t.Helper()
		dir := t.TempDir()
		s := openStore(t, dir)
		saveLastGood(t, s, 7)
		return dir
	}
	t.Run("source without content", func(t *testing.T) {
		r := newRig(t, "", func(o *Options[settings]) { o.StateDir = prepare(t) })
		r.source.fail(configsrc.ErrNotFound, "gone")
		r.start(t)
		st := r.Status()
		if r.Load().Config.Pair.A != 7 || !st.Sources[0].Stale || !strings.Contains(st.Fallback, "not found") {
			t.Errorf("status %+v", st)
		}
		if !strings.Contains(r.logs.String(), "started from the last good configuration") {
			t.Error("the log does not say so")
		}
		want(t, r.reload(t, pairYAML(8)), Applied)
		if st := r.Status(); st.Fallback != "" || st.Sources[0].Stale || r.Load().Config.Pair.A != 8 {
			t.Errorf("status %+v after the source came", st)
		}
	})
	for name, kind := range map[string]error{"unreadable": configsrc.ErrDenied, "does not parse": configsrc.ErrInvalid} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "", func(o *Options[settings]) { o.StateDir = prepare(t) })
			r.source.fail(kind, "state")
			r.start(t)
			if st := r.Status(); r.Load().Config.Pair.A != 7 || !st.Sources[0].Stale || !strings.Contains(st.Fallback, kind.Error()) {
				t.Errorf("status %+v", st)
			}
		})
	}
	t.Run("source cannot be reached in time", func(t *testing.T) {
		r := newRig(t, "", func(o *Options[settings]) { o.StateDir = prepare(t); o.StartTimeout = 300 * 1e6 })
		r.source.fail(nil, "")
		r.start(t)
		if r.Load().Config.Pair.A != 7 {
			t.Errorf("config %+v", r.Load().Config)
		}
	})
	t.Run("content is refused", func(t *testing.T) {
		r := newRig(t, "pair: {a: 1, b: 2}", func(o *Options[settings]) { o.StateDir = prepare(t) })
		r.start(t)
		st := r.Status()
		if r.Load().Config.Pair.A != 7 || st.Last.Outcome != Refused || !strings.Contains(st.Fallback, "must be the same") {
			t.Errorf("status %+v", st)
		}
		want(t, r.reread(t), Refused)
		want(t, r.reload(t, pairYAML(7)+"plain: "+strings.Repeat("x", 10_000)), Unchanged)
		if st := r.Status(); st.Fallback != "" || !st.Last.Outcome.Good() {
			t.Errorf("status %+v after the same content came live", st)
		}
	})
	t.Run("without last good it fails and says why", func(t *testing.T) {
		r := newRig(t, "", func(o *Options[settings]) { o.StateDir = t.TempDir() })
		r.source.fail(configsrc.ErrNotFound, "gone")
		err := r.Start(t.Context())
		if !errors.Is(err, configsrc.ErrNotFound) || !strings.Contains(err.Error(), "no last good configuration") {
			t.Errorf("Start: %v", err)
		}
	})
	for name, damage := range map[string]struct {
		change func(string) string
		says   string
	}{
		"checksum":       {func(s string) string { return strings.Replace(s, `"7"`, `"8"`, 1) }, "checksum"},
		"cut short":      {func(s string) string { return s[:len(s)/2] }, "damaged"},
		"other format":   {func(s string) string { return strings.Replace(s, `"format":1`, `"format":9`, 1) }, "format 9"},
		"another source": {func(s string) string { return strings.Replace(s, "memory here", "memory there", 1) }, "another source: memory there"},
		"empty":          {func(string) string { return "" }, "damaged"},
	} {
		t.Run("last good "+name, func(t *testing.T) {
			dir := prepare(t)
			path := filepath.Join(dir, lastGoodFile)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			changed := damage.change(string(data))
			if changed == string(data) {
				t.Fatal("the damage changed nothing")
			}
			if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
				t.Fatal(err)
			}
			r := newRig(t, "", func(o *Options[settings]) { o.StateDir = dir })
			r.source.fail(configsrc.ErrNotFound, "gone")
			if err := r.Start(t.Context()); err == nil || !strings.Contains(err.Error(), damage.says) {
				t.Errorf("Start: %v", err)
			}
		})
	}
}

func TestFallbackLastsUntilAUsableContent(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	saveLastGood(t, s, 7)
	r := newRig(t, "pair: {a: 1, b: 2}\n", func(o *Options[settings]) { o.StateDir = dir })
	r.start(t)
	n := len(r.History())
	want(t, r.reread(t), Refused)
	if len(r.History()) != n {
		t.Errorf("the same refusal was written down %d times more", len(r.History())-n)
	}
	if r.Status().Fallback == "" {
		t.Error("the fallback is over though the content was refused again")
	}
	want(t, r.reload(t, "pair: {a: 1, b: 3}\n"), Refused)
	if r.Status().Fallback == "" {
		t.Error("the fallback is over though another content was refused")
	}
	want(t, r.reload(t, pairYAML(1)), Applied)
	if text := r.Status().Fallback; text != "" {
		t.Errorf("still a fallback: %s", text)
	}
}

func TestStartInAMomentOfEmptiness(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, dir)
		saveLastGood(t, s, 7)
		r := newRig(t, "", func(o *Options[settings]) { o.StateDir = dir; o.Layers[0].Quiet = 300 * time.Millisecond })
		time.AfterFunc(50*time.Millisecond, func() { r.source.publish(t, pairYAML(7)+"workers: 9\n") })
		r.start(t)
		if st, c := r.Status(), r.Load().Config; st.Last.Outcome != Applied || st.Fallback != "" || c.Workers != 9 || c.Pair.A != 7 {
			t.Errorf("status %+v, config %+v", st, c)
		}
	})
}

func TestParseErrorAtAColdStartShowsEverywhere(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	saveLastGood(t, s, 7)
	r := newRig(t, "", func(o *Options[settings]) { o.StateDir = dir })
	r.source.fail(configsrc.ErrInvalid, "broken")
	r.start(t)
	if last := r.Status().Last; last.Outcome != Refused || !strings.Contains(last.Reason, "invalid content") {
		t.Errorf("last %+v", last)
	}
	if h := r.History(); h[0].Outcome != Refused || h[0].Trigger != TriggerStart {
		t.Errorf("history %+v", h)
	}
	if n := testutil.ToFloat64(r.metrics.successful); n != 0 {
		t.Errorf("svc_config_last_reload_successful = %v", n)
	}
	if n := testutil.ToFloat64(r.metrics.rejected.WithLabelValues(rejectedParse)); n != 1 {
		t.Errorf("svc_config_rejected_total{reason=parse} = %v", n)
	}
}
