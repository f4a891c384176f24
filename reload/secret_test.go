package reload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/hotsvc/svc/configsrc"
)

const canary = "canary-5f1d"

// TestSecretsShowNowhere puts a canary into every secret place and looks for it
// in all that the manager hands out, through good changes and bad ones.
func TestSecretsShowNowhere(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, "token: "+canary+"\nplain: "+canary+"\n", func(o *Options[settings]) { o.StateDir = dir })
	Register(r.Manager, "with token", func(c *settings) configsrc.Secret { return c.Token }, func(_ context.Context, s configsrc.Secret) (string, error) {
		switch {
		case strings.HasSuffix(string(s), "panic"):
			panic(string(s))
		case strings.HasSuffix(string(s), "error"):
			return "", fmt.Errorf("the token %v is no good", s)
		}
		return string(s), nil
	})
	r.start(t)
	var shown []string
	show := func(what string, v any) {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		shown = append(shown, what+string(data), fmt.Sprintf("%s %v %+v %#v", what, v, v, v))
	}
	for _, yaml := range []string{
		"token: " + canary + "2\nplain: " + canary + "2\n",
		"token: " + canary + "-panic\n",
		"token: " + canary + "-error\n",
		"token: [" + canary + "]\nplain: {" + canary + ": 1}\n",
		"timeout: " + canary + "\nworkers: " + canary + "\n",
		"workers: 99\ntoken: " + canary + "3\n",
		"workers: 9\ntoken: " + canary + "4\n",
		"tokken: " + canary + "\nnested: {unknown: " + canary + "}\n",
		"token: &a " + canary + "\nplain: *a\n" + pairYAML(3),
	} {
		e := r.reload(t, yaml)
		show("entry", e)
		values := r.source.values
		show("values", values)
		if p, err := r.Plan(values); err == nil {
			show("plan", p)
		} else {
			show("plan error", err.Error())
		}
		if _, err := r.Check(t.Context(), values); err != nil {
			show("check error", err.Error())
		}
	}
	if _, err := configsrc.Flatten(configsrc.YAML, []byte("token: "+canary+"\n\tplain: "+canary), configsrc.Origin{}, configsrc.Limits{}); err != nil {
		show("flatten error", err.Error())
	}
	show("status", r.Status())
	show("settings", r.Settings())
	show("history", r.History())
	shown = append(shown, "config "+fmt.Sprintf("%v %+v", r.Load().Config.Token, r.Load().Config.Token), "log "+r.logs.String())
	for _, family := range gathered(t, r.registry) {
		shown = append(shown, family.String())
	}
	index, err := os.ReadFile(filepath.Join(dir, historyIndex))
	if err != nil {
		t.Fatal(err)
	}
	shown = append(shown, "index "+string(index))
	for _, text := range shown {
		// The key of a mapping is a key: it may show, wherever it was put.
		text = strings.ReplaceAll(text, "plain."+canary, "")
		if strings.Contains(text, canary) {
			t.Errorf("the secret shows in %s", text)
		}
	}
	if len(shown) < 40 {
		t.Errorf("only %d things were looked at", len(shown))
	}
	// It is there, though: where it belongs.
	if good, err := os.ReadFile(filepath.Join(dir, lastGoodFile)); err != nil || !strings.Contains(string(good), canary) {
		t.Errorf("last good does not hold the value: %v", err)
	}
}

func gathered(t *testing.T, r *prometheus.Registry) []*dto.MetricFamily {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(families) < 6 {
		t.Errorf("only %d metrics", len(families))
	}
	return families
}

func TestPanicErrorHidesTheValue(t *testing.T) {
	if text := panicError(errors.New(canary)).Error(); strings.Contains(text, canary) || !strings.Contains(text, "errorString") {
		t.Errorf("%q", text)
	}
}

func TestSecretsInListsAndMapsAreMasked(t *testing.T) {
	type element struct {
		Name  string           `config:"name"`
		Token configsrc.Secret `config:"token"`
		Plain string           `config:"plain" secret:"true"`
	}
	type conf struct {
		List   []element                     `config:"list" reload:"live"`
		Map    map[string]element            `config:"map" reload:"live"`
		Lists  map[string][]element          `config:"lists" reload:"live"`
		Tokens []configsrc.Secret            `config:"tokens" reload:"live"`
		Maps   []map[string]configsrc.Secret `config:"maps" reload:"live"`
		Any    map[string]any                `config:"any" reload:"live" secret:"true"`
	}
	document := func(secret string) string {
		return strings.ReplaceAll(`
list: [{name: shown, token: S, plain: S}]
map: {x: {name: shown, token: S}}
lists: {x: [{name: shown, token: S}]}
tokens: [S, S]
maps: [{a: S}]
any: {a: S, l: [S]}
`, "S", secret)
	}
	m := newManager(t, Options[conf]{Layers: []Layer{{Name: "memory", Source: newMemory(t, document(canary))}}})
	startManager(t, m)
	plan, err := m.Plan(testValues(t, document(canary+"2")))
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Changes) < 6 {
		t.Errorf("the plan has %d changes", len(plan.Changes))
	}
	settings := fmt.Sprint(m.Settings())
	if strings.Contains(settings, canary) {
		t.Errorf("a secret shows in the settings: %s", settings)
	}
	if n := strings.Count(settings, "shown"); n != 3 {
		t.Errorf("%d of 3 public values next to secrets show: %s", n, settings)
	}
	if text := fmt.Sprint(plan); strings.Contains(text, canary) {
		t.Errorf("a secret shows in the plan: %s", text)
	}
	if token := m.Load().Config.List[0].Token; string(token) != canary {
		t.Error("the config does not have the secret itself")
	}
}
