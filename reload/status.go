package reload

import (
	"slices"
	"time"

	"github.com/hotsvc/svc/configsrc"
)

// SourceStatus is how a source is doing.
type SourceStatus struct {
	Name    string `json:"name"`
	Address string `json:"address,omitempty"`
	// Stale is true while the source cannot be read or parsed: what is known
	// of it is of FetchedAt, or of an earlier process.
	Stale      bool      `json:"stale"`
	StaleSince time.Time `json:"stale_since,omitzero"`
	Error      string    `json:"error,omitempty"`
	// Label is the source's own name for its state.
	Label     string    `json:"label,omitempty"`
	FetchedAt time.Time `json:"fetched_at,omitzero"`
	Keys      int       `json:"keys"`
}

// Status is a picture of the manager at one moment. It holds no values.
type Status struct {
	Revision string         `json:"revision"` // in force
	Pinned   string         `json:"pinned,omitempty"`
	Last     Entry          `json:"last"` // the last change that was tried
	Sources  []SourceStatus `json:"sources"`
	// Fallback says why the last good content was started from; "" once the
	// sources gave a usable content.
	Fallback string `json:"fallback,omitempty"`
}

// Status returns how the configuration is doing.
func (m *Manager[T]) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := Status{Last: m.state.last, Sources: slices.Clone(m.state.sources), Fallback: m.state.fallback}
	if r := m.Load(); r != nil {
		s.Revision = r.ID
	}
	if m.state.pin != nil {
		s.Pinned = m.state.pin.revision()
	}
	return s
}

// History returns the changes that are still remembered, oldest first.
func (m *Manager[T]) History() []Entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.state.entries)
}

func (m *Manager[T]) staleSeconds() map[string]float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]float64{}
	for _, s := range m.state.sources {
		out[s.Name] = 0
		if s.Stale {
			out[s.Name] = time.Since(s.StaleSince).Seconds()
		}
	}
	return out
}

// Setting is one setting of the running config and where it comes from.
type Setting struct {
	Key string `json:"key"`
	// Value is masked for secrets.
	Value  any              `json:"value"`
	Origin configsrc.Origin `json:"origin"` // source "default" where nobody set it
	// Shadows are the places of lower priority that set it too.
	Shadows []configsrc.Origin `json:"shadows,omitempty"`
	Live    bool               `json:"live"` // a change takes effect in place
}

// OriginDefault is the Source of a setting that no source sets.
const OriginDefault = "default"

// Settings returns the running config, in the order of the keys.
func (m *Manager[T]) Settings() []Setting {
	r := m.Load()
	if r == nil {
		return nil
	}
	settings := make([]Setting, 0, len(r.effective))
	for key, value := range r.effective {
		s := Setting{Key: key, Value: m.mask(key, value), Origin: configsrc.Origin{Source: OriginDefault}, Live: m.schema.isLive(key)}
		if first, ok := firstOf(r.content.full, key); ok {
			s.Origin = first.Origin
			for _, shadow := range first.Shadows {
				if !slices.Contains(s.Shadows, shadow.Origin) {
					s.Shadows = append(s.Shadows, shadow.Origin)
				}
			}
		}
		settings = append(settings, s)
	}
	slices.SortFunc(settings, func(a, b Setting) int { return configsrc.CompareKeys(a.Key, b.Key) })
	return settings
}

// firstOf finds the value of a setting, or the first one in it where it is a list.
func firstOf(values configsrc.Values, key string) (configsrc.Value, bool) {
	if v, ok := values[key]; ok {
		return v, true
	}
	first, ok := firstBelow(values, key)
	return values[first], ok
}

func firstBelow(values configsrc.Values, key string) (string, bool) {
	first := ""
	for k := range values {
		if below(k, key) && (first == "" || configsrc.CompareKeys(k, first) < 0) {
			first = k
		}
	}
	return first, first != ""
}

const maskedValue = "[secret]"

// mask hides the secrets in the value of a setting, but not that one is unset.
func (m *Manager[T]) mask(key string, value any) any {
	found := m.schema.find(key)
	if found.problem != "" {
		return maskedValue // what no field knows may be a misspelt secret
	}
	return maskTree(found.node, value)
}

// maskTree hides what is secret in a list or section, element by element.
func maskTree(n *node, value any) any {
	if value == nil || value == "" {
		return value
	}
	if n.secret {
		return maskedValue
	}
	switch x := value.(type) {
	case []any:
		if n.elem == nil {
			return value
		}
		masked := make([]any, len(x))
		for i, element := range x {
			masked[i] = maskTree(n.elem, element)
		}
		return masked
	case map[string]any:
		masked := make(map[string]any, len(x))
		for name, child := range x {
			switch {
			case n.elem != nil:
				masked[name] = maskTree(n.elem, child)
			case n.children[name] != nil:
				masked[name] = maskTree(n.children[name], child)
			default:
				masked[name] = child // below an any
			}
		}
		return masked
	}
	return value
}
