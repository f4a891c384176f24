package configsrctest

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/hotsvc/svc/configsrc"
)

// contentRules: what a content may hold.
func contentRules() []rule {
	return []rule{
		{"a large content comes whole", nil, large},
		{"values keep their types", []string{"PublishTree"}, typed},
		{"a content without keys is a content", []string{"PublishEmpty"}, keyless},
	}
}

// content makes a configuration that differs for each n, and holds two keys
// that always belong together.
func content(n int) map[string]string {
	return map[string]string{
		"suite.left":  fmt.Sprintf("%s %d", canary, n),
		"suite.right": fmt.Sprintf("%s %d", canary, n),
		"suite.fixed": canary,
	}
}

// texts is a content as a source hands it out, but for the origins.
func texts(content map[string]string) configsrc.Values {
	v := make(configsrc.Values, len(content))
	for key, text := range content {
		v[key] = configsrc.Value{Raw: text}
	}
	return v
}

func (p *probe) publish(content map[string]string) {
	p.Helper()
	p.allow(texts(content))
	p.b.Publish(content)
}

// allow adds a content to those that a snapshot may hold.
func (p *probe) allow(v configsrc.Values) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.published[v.Hash()] = true
	p.last = v
}

// difference names the keys in which got is not want, some of them.
func difference(got, want configsrc.Values) string {
	var lacks, others, surplus []string
	for _, key := range want.Keys() {
		x, ok := got[key]
		switch w := want[key]; {
		case !ok:
			lacks = append(lacks, key)
		case fmt.Sprintf("%T", x.Raw) != fmt.Sprintf("%T", w.Raw):
			others = append(others, fmt.Sprintf("%s (a %T, not a %T)", key, x.Raw, w.Raw))
		case x.Raw != w.Raw:
			others = append(others, key)
		}
	}
	for _, key := range got.Keys() {
		if _, ok := want[key]; !ok {
			surplus = append(surplus, key)
		}
	}
	var parts []string
	for _, part := range []struct {
		what string
		keys []string
	}{{"lacks", lacks}, {"has another value at", others}, {"has too much", surplus}} {
		const shown = 5
		if n := len(part.keys); n > shown {
			part.keys = append(slices.Clip(part.keys[:shown]), fmt.Sprintf("and %d more", n-shown))
		}
		if len(part.keys) > 0 {
			parts = append(parts, part.what+": "+strings.Join(part.keys, ", "))
		}
	}
	return strings.Join(parts, "; ")
}

// largeContent has keys of every shape, and texts that tempt a driver to take
// them for something else.
func (p *probe) largeContent() map[string]string {
	m := map[string]string{
		"odd.a-b":                  canary,
		"odd.a_b":                  canary,
		"odd.50%":                  canary,
		"odd.Größe.名前":             canary + " ä 名 \U0001F600",
		"odd.case":                 canary + " lower",
		"odd.CASE":                 canary + " upper",
		"list[0]":                  canary + " 0",
		"list[1]":                  "",
		"nested[0][0]":             canary + " 0 0",
		"nested[0][1]":             canary + " 0 1",
		"nested[1][0].name":        canary + " 1 0",
		"sections[0].name":         canary + " first",
		"sections[0].ports[0].tcp": "80",
		"sections[1].name":         canary + " second",
		"text.empty":               "",
		"text.true":                "true",
		"text.null":                "null",
		"text.number":              "0042",
		"text.list":                "[]",
		"text.section":             "{}",
		"text.lines":               canary + "\n\t\"quoted\" \\ #, = and :\n",
		"text.long":                strings.Repeat(canary+" ", p.h.TextBytes/len(canary))[:p.h.TextBytes],
	}
	for i := range 12 { // so that list[10] sorts before list[2]
		m[fmt.Sprintf("long.list[%d]", i)] = fmt.Sprint(canary, " ", i)
	}
	for n := 0; len(m) < p.h.Keys; n++ {
		m[fmt.Sprintf("many.section-%02d.key-%d", n%50, n)] = fmt.Sprint(canary, " ", n)
	}
	return m
}

func large(p *probe) {
	want := p.largeContent()
	p.publish(want)
	src := p.open()
	snap := p.gets(src, configsrc.Version{}, want, "a large content")
	// A change of one key in many.
	change := func(key, text string) {
		p.Helper()
		why := "a large content in which one text is another: " + key
		c := p.start(src, snap.Version)
		c.blocks(p.moment(), "before the change of "+key)
		want = maps.Clone(want)
		want[key] = text
		p.publish(want)
		var err error
		snap, err = c.returns(p.h.Within, why)
		p.is(snap, err, want, why)
	}
	change("many.section-01.key-1", canary+" other")
	change("nested[0][1]", "")
	change("text.empty", canary)
	change("text.long", strings.Repeat("x", p.h.TextBytes))
	// A list that gets shorter, and one that goes.
	for _, key := range []string{"long.list[11]", "list[1]", "list[0]"} {
		want = maps.Clone(want)
		delete(want, key)
		p.publish(want)
		snap = p.gets(src, snap.Version, want, "a large content without "+key)
	}
	p.publish(content(1))
	p.gets(src, snap.Version, content(1), "a small content after a large one")
}

// typedTree holds each kind of value, in a section and in a list.
func typedTree() map[string]any {
	all := func() []any {
		return []any{
			true, false, int64(0), int64(-5), int64(math.MaxInt64), uint64(math.MaxUint64), 0.5, -2.5e-300,
			"", "true", "5", canary, nil,
			[]any{},
			map[string]any{},
			[]any{int64(1), []any{"2", []any{}}},
			map[string]any{"in": []any{map[string]any{"list": false}}},
		}
	}
	section := map[string]any{"list": all()}
	for i, value := range all() {
		if value != nil {
			section[fmt.Sprint("value-", i)] = value
		}
	}
	return map[string]any{"typed": section, "none": []any{}, "nothing": map[string]any{}, "name": canary}
}

func typed(p *probe) {
	tree := typedTree()
	publish := func() configsrc.Values {
		p.Helper()
		want, err := configsrc.FromTree(tree, configsrc.Origin{Source: "suite"})
		if err != nil {
			p.Fatal(err)
		}
		p.allow(want)
		p.b.PublishTree(tree)
		return want
	}
	is := func(snap configsrc.Snapshot, err error, want configsrc.Values, why string) {
		p.Helper()
		if err != nil {
			p.Fatalf("%s: %v", why, err)
		}
		if snap.Values.Hash() != want.Hash() {
			p.Fatalf("%s: the snapshot holds another content: %s", why, difference(snap.Values, want))
		}
	}
	want := publish()
	src := p.open()
	snap, err := p.next(src, configsrc.Version{}, "typed values")
	is(snap, err, want, "typed values")
	// What differs in nothing but its type is news.
	for _, value := range []any{int64(5), "5", 5.5, "5.5", true, "true", []any{}, "[]", map[string]any{}, "{}"} {
		why := fmt.Sprintf("a %T at the key name", value)
		c := p.start(src, snap.Version)
		c.blocks(p.moment(), "before "+why)
		tree["name"] = value
		want = publish()
		snap, err = c.returns(p.h.Within, why)
		is(snap, err, want, why)
	}
}

func keyless(p *probe) {
	p.publish(content(1))
	src := p.open()
	snap := p.gets(src, configsrc.Version{}, content(1), "first call")
	empty := func() {
		p.allow(configsrc.Values{})
		p.b.PublishEmpty()
	}
	c := p.start(src, snap.Version)
	c.blocks(p.moment(), "before the content without keys")
	empty()
	snap, err := c.returns(p.h.Within, "a content without keys")
	p.is(snap, err, nil, "a content without keys")
	p.gets(src, configsrc.Version{}, nil, "a content without keys, read again")
	p.idles(src, snap.Version, "a content without keys and nothing changes")
	c = p.start(src, snap.Version)
	p.publish(content(1))
	snap, err = c.returns(p.h.Within, "keys are back")
	p.is(snap, err, content(1), "keys are back")
	empty()
	p.gets(src, snap.Version, nil, "a content without keys, between two calls")
}
