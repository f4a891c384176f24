package liveconn

import (
	"slices"
	"time"
)

// Info is what an operator may know of a connection.
type Info struct {
	Class

	Key    string    // of its listener
	Peer   string    // address and port; of a unix socket what the client has bound, mostly nothing
	Opened time.Time // when it was accepted, by this process or one before
	Since  time.Time // when its state began
}

// List returns the connections that are open, the oldest first, at most limit of
// them; 0, or less, is all. It takes about a microsecond for each that is open.
func (r *Registry) List(limit int) []Info {
	all := r.all()
	list := make([]Info, 0, len(all))
	for _, c := range all {
		if info, open := c.info(); open {
			list = append(list, info)
		}
	}
	slices.SortFunc(list, func(a, b Info) int { return a.Opened.Compare(b.Opened) })
	if limit > 0 && len(list) > limit {
		list = slices.Clip(list[:limit])
	}
	return list
}

func (c *Conn) info() (Info, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	class, open := c.classLocked()
	info := Info{Class: class, Key: c.options.Key, Opened: c.opened, Since: c.since}
	if peer := c.RemoteAddr(); peer != nil {
		info.Peer = peer.String()
	}
	return info, open
}
