package reload

import (
	"slices"
	"testing"

	"github.com/hotsvc/svc/configsrc"
)

// FuzzApply: whatever content comes, it is in force whole, or only with its
// live part where the outcome says so, or not at all.
func FuzzApply(f *testing.F) {
	for _, seed := range []string{
		pairYAML(1), "workers: 9\ntimeout: 2s\n", "pair: {a: 1, b: 2}\n", "listen: [a]\ntoken: x\n", "public: {a: [1, {b: c}], d: {}}\n",
		"workers: 65\n", "workers: many\n" + pairYAML(3), "old: {timeout: 5s}\n", "unknown: {key: 1}\nplain: x\n", "listen: []\n", "public: 7\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, yaml string) {
		values, err := configsrc.Flatten(configsrc.YAML, []byte(yaml), configsrc.Origin{}, configsrc.Limits{})
		if err != nil {
			return
		}
		r := newRig(t, "workers: 2\npair: {a: 5, b: 5}\npublic: {was: here}\n", nil)
		if err := r.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		before := r.Load()
		c, err := newContent(r.schema.resolveAliases(values), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		whole, _, _, decodeErr := r.decode(c.full)
		e := r.decide(t.Context(), c, TriggerChange, stages{})
		now := r.Load()
		if (decodeErr != nil) != (e.Outcome == Refused) {
			t.Fatalf("outcome %s (%s), decoded alone: %v", e.Outcome, e.Reason, decodeErr)
		}
		switch e.Outcome {
		case Refused:
			if now != before {
				t.Fatal("a refused content came into force")
			}
		case Applied, Unchanged:
			if d := now.effective.diff(r.schema.encode(whole)); len(d) > 0 {
				t.Fatalf("%s, but %v are not in force", e.Outcome, d)
			}
		case RestartRequired:
			// What differs from the whole is exactly what needs the restart,
			// and that is as before.
			d := now.effective.diff(r.schema.encode(whole))
			if !slices.Equal(d, e.Restart) {
				t.Fatalf("not in force: %v, needs a restart: %v", d, e.Restart)
			}
			for _, key := range now.effective.diff(before.effective) {
				if !r.schema.isLive(key) {
					t.Fatalf("%s changed without a restart", key)
				}
			}
		default:
			t.Fatalf("outcome %s", e.Outcome)
		}
		if err := r.retireAll(); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzHanded: whatever bytes come from another process, a start with them takes
// them whole and gives the same ones on, or refuses them.
func FuzzHanded(f *testing.F) {
	encoder := newRig(f, "", nil)
	for _, yaml := range []string{"", pairYAML(1), "workers: 9\ntoken: x\npublic: {a: [1, {b: c}]}\n", "workers: 65\n", "unknown: 1\n"} {
		c, err := newContent(testValues(f, yaml), nil, map[string]string{"memory": "label"})
		if err != nil {
			f.Fatal(err)
		}
		for _, entry := range []*Entry{nil, {ID: 7, Changed: []string{"workers"}, Trigger: TriggerRollback}, {ID: -1, Outcome: Refused}} {
			data, err := encoder.encodeHanded(c, entry, stages{})
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	for _, text := range []string{"", "\n\n", "{}\n{}\n", `{"format":2}`, `{"format":1,"entry":{"id":9223372036854775807}}` + "\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var r *rig
		r = newRig(t, "", func(o *Options[settings]) {
			o.Handed = data
			o.Applied = func(content []byte) {
				_, _, given, err := decodeHanded(content)
				if err != nil {
					t.Fatalf("what is given on cannot be read: %v", err)
				}
				_, _, taken, _ := decodeHanded(data)
				if given.Hash() != r.schema.resolveAliases(taken).Hash() {
					t.Fatal("other values are given on than were taken")
				}
			}
		})
		calls := r.source.requests()
		if err := r.Start(t.Context()); err != nil {
			if r.Load() != nil {
				t.Fatalf("in force in spite of %v", err)
			}
		} else {
			r.takeOver()
			if last := r.Status().Last; last.Outcome != "" && (last.Outcome != Restarted || last.Action != ActionRestart || last.ID < 1 || last.Changed == nil) {
				t.Fatalf("last %+v", last)
			}
		}
		if r.source.requests() != calls {
			t.Fatal("the source was asked")
		}
		if err := r.retireAll(); err != nil {
			t.Fatal(err)
		}
	})
}
