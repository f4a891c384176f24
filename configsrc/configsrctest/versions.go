package configsrctest

import (
	"fmt"

	"github.com/hotsvc/svc/configsrc"
)

// versionRules: where a call may start from.
func versionRules() []rule {
	return []rule{
		{"another instance's version is as good as one's own", nil, foreignVersion},
		{"a cursor that means nothing neither wakes nor hides", nil, strangeCursor},
		{"wrong content under a right cursor is found", nil, rightCursor},
	}
}

func foreignVersion(p *probe) {
	p.publish(content(1))
	one := p.open()
	snap := p.gets(one, configsrc.Version{}, content(1), "one instance")
	two := p.open()
	c := p.start(two, snap.Version)
	c.idles(p.h.Quiet, "another instance's version, nothing changed")
	p.publish(content(2))
	got, err := c.returns(p.h.Within, "another instance's version")
	p.is(got, err, content(2), "another instance's version")
	p.gets(p.open(), snap.Version, content(2), "another instance's old version")
}

func strangeCursor(p *probe) {
	p.publish(content(1))
	src := p.open()
	snap := p.gets(src, configsrc.Version{}, content(1), "first call")
	n := 1
	for _, cursor := range []string{"", "0", "1", "999999999999", "-5", "garbage \x00\xff", "{}"} {
		after := configsrc.Version{Content: snap.Version.Content, Cursor: cursor}
		c := p.start(src, after)
		c.idles(p.h.Quiet, fmt.Sprintf("right content under the cursor %q", cursor))
		n++
		p.publish(content(n))
		got, err := c.returns(p.h.Within, fmt.Sprintf("published under the cursor %q", cursor))
		p.is(got, err, content(n), fmt.Sprintf("published under the cursor %q", cursor))
		n++
		p.publish(content(n))
		after = configsrc.Version{Content: got.Version.Content, Cursor: cursor}
		snap = p.gets(src, after, content(n), fmt.Sprintf("published before a call with the cursor %q", cursor))
	}
}

func rightCursor(p *probe) {
	p.publish(content(1))
	src := p.open()
	snap := p.gets(src, configsrc.Version{}, content(1), "first call")
	p.gets(src, configsrc.Version{Content: [32]byte{1}, Cursor: snap.Version.Cursor}, content(1),
		"content that never was, under the right cursor")
}
