package reload

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hotsvc/svc/configsrc"
)

// Plan is what a content would cause.
type Plan struct {
	Revision string   `json:"revision"`
	Action   Action   `json:"action"`
	Changes  []Change `json:"changes"`
	// Pinned is the revision that a rollback holds in force: until that is
	// resumed, nothing of the plan would happen.
	Pinned string `json:"pinned,omitempty"`
}

// Change is one setting that would change. Secrets are masked; nil is "not set".
type Change struct {
	Key    string `json:"key"`
	Old    any    `json:"old"`
	New    any    `json:"new"`
	Effect Action `json:"effect"`
}

// Plan says what the top source's content would cause if it were values, or,
// where values is nil, what the sources' content as last read would cause. It
// is compared with the revision in force, or before Start with the sources'
// content. It builds and changes nothing. The error is *configsrc.InvalidError
// for a content that would be refused.
func (m *Manager[T]) Plan(values configsrc.Values) (Plan, error) {
	config, c, _, err := m.candidate(values)
	if err != nil {
		return Plan{}, err
	}
	next := m.schema.encode(config)
	var running effective
	if r := m.Load(); r != nil {
		running = r.effective
	} else {
		base, _, err := m.gather()
		if err != nil {
			return Plan{}, err
		}
		config, _, _, err := m.decode(base.full)
		if err != nil {
			return Plan{}, fmt.Errorf("the sources' present content is not usable: %w", err)
		}
		running = m.schema.encode(config)
	}
	plan := Plan{Revision: c.revision(), Action: ActionNone, Changes: []Change{}, Pinned: m.Status().Pinned}
	for _, key := range next.diff(running) {
		change := Change{Key: key, Old: m.mask(key, running[key]), New: m.mask(key, next[key]), Effect: ActionInPlace}
		if !m.schema.isLive(key) {
			change.Effect = ActionRestart
		}
		if plan.Action != ActionRestart {
			plan.Action = change.Effect
		}
		plan.Changes = append(plan.Changes, change)
	}
	return plan, nil
}

// ErrBuild is returned by Check for a content of which something cannot be built.
var ErrBuild = errors.New("cannot be built")

// Check tells whether values, as the content of the top source, would come into
// force: it merges, decodes, validates and builds, and gives up what it built.
// nil stands for the sources' content as last read. The error is
// *configsrc.InvalidError or ErrBuild where the content is at fault. The
// warnings are the keys that no field knows, unless they are errors.
func (m *Manager[T]) Check(ctx context.Context, values configsrc.Values) (warnings []configsrc.Problem, err error) {
	config, _, warnings, err := m.candidate(values)
	if err != nil {
		return warnings, err
	}
	instances, err := m.build(ctx, config, nil)
	if err != nil {
		return warnings, fmt.Errorf("%w: %w", ErrBuild, err)
	}
	m.closeInstances(instances)
	return warnings, nil
}

// candidate decodes the content with values in place of the top source's.
func (m *Manager[T]) candidate(values configsrc.Values) (*T, content, []configsrc.Problem, error) {
	m.mu.Lock()
	snapshots := slices.Clone(m.state.snapshots)
	m.mu.Unlock()
	if values != nil && len(snapshots) > 0 {
		snapshots[len(snapshots)-1] = &configsrc.Snapshot{Values: m.schema.resolveAliases(values)}
	}
	if missing := slices.Index(snapshots, nil); missing >= 0 {
		return nil, content{}, nil, fmt.Errorf("source %s has given no content yet", m.watchers[missing].layer.Name)
	}
	c, _, err := m.merge(snapshots)
	if err != nil {
		return nil, c, nil, err
	}
	config, unknown, _, err := m.decode(c.full)
	return config, c, unknown, err
}

// Read reads every source once, for Plan and Check without Start. The error is
// the first source's that gave no content.
func (m *Manager[T]) Read(ctx context.Context) error {
	if err := m.readSources(ctx); err != nil && ctx.Err() != nil {
		return err
	}
	for i, s := range m.state.snapshots {
		if s == nil {
			return m.watchers[i].lastErr
		}
	}
	return nil
}

// Candidate returns the typed config of the sources' content as last read, for
// a look at what a start would use. It is not in force.
func (m *Manager[T]) Candidate() (*T, error) {
	config, _, _, err := m.candidate(nil)
	return config, err
}
