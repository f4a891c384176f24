package reload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"slices"
	"sync/atomic"
	"time"
)

// Resource is something built from a section of the config: a pool, a client, a
// rule set, parsed certificates. Make one with [Register].
type Resource[T, R any] struct {
	index int
}

// Register adds a resource to m. It must be called before [Manager.Start].
//
// section picks what the resource depends on; as long as it stays deeply equal,
// revisions share one instance. build makes an instance. It is called in the
// order of registration, before the revision is visible to anybody, and its
// ctx ends after Options.BuildTimeout. An error refuses the whole revision
// until its content changes; one marked with [Retryable] fails it, and it is
// tried again. Its text is shown to operators, so it must hold no value.
//
// An instance that is an [io.Closer] is closed once, when the last revision
// that has it is retired. Close may block; nobody waits for it but the end of
// [Manager.Run].
func Register[T, S, R any](m *Manager[T], name string, section func(*T) S, build func(context.Context, S) (R, error)) *Resource[T, R] {
	m.resources = append(m.resources, resource[T]{
		name:    name,
		section: func(config *T) any { return section(config) },
		build: func(ctx context.Context, s any) (any, error) {
			typed, _ := s.(S) // a nil interface S arrives as nil
			return build(ctx, typed)
		},
	})
	return &Resource[T, R]{index: len(m.resources) - 1}
}

// Get returns the instance that belongs to a revision. The caller holds a lease
// on the revision ([Manager.Acquire], [Manager.Pin]) for as long as it uses it.
func (r *Resource[T, R]) Get(rev *Revision[T]) R {
	value, _ := rev.instances[r.index].value.(R)
	return value
}

// abandonAfter is how long a build that was told to stop is still waited for.
const abandonAfter = 100 * time.Millisecond

type resource[T any] struct {
	name    string
	section func(*T) any
	build   func(context.Context, any) (any, error)
}

// instance is one built resource, shared by all revisions with the same section.
type instance struct {
	name    string
	section any
	value   any
	users   atomic.Int64 // revisions that have it
}

func (i *instance) close() error {
	if c, ok := i.value.(io.Closer); ok {
		if err := c.Close(); err != nil {
			return fmt.Errorf("close resource %s: %w", i.name, err)
		}
	}
	return nil
}

// Retryable marks an error of the environment (busy port, full disk, refused
// connection) as opposed to one of the content: the manager tries again with
// the same content after a pause. Retryable(nil) is nil.
//
// Any error with a method Retryable() bool that returns true counts as marked,
// such as one that was made from the answer of another process; [errors.As]
// finds the mark of this func by that method too.
func Retryable(err error) error {
	if err == nil {
		return nil
	}
	return &retryableError{err}
}

type retryableError struct{ err error }

func (e *retryableError) Error() string { return e.err.Error() }
func (e *retryableError) Unwrap() error { return e.err }

// Retryable makes the mark one that other packages can read, and give.
func (e *retryableError) Retryable() bool { return true }

func isRetryable(err error) bool {
	var marked interface{ Retryable() bool }
	return errors.As(err, &marked) && marked.Retryable()
}

// build makes the instances for config, taking over those of previous whose
// section is unchanged. On an error nothing is left of what it made.
func (m *Manager[T]) build(ctx context.Context, config *T, previous []*instance) ([]*instance, error) {
	instances := make([]*instance, len(m.resources))
	for i, def := range m.resources {
		section, err := sectionOf(def.section, config)
		if err != nil {
			m.drop(instances[:i])
			return nil, fmt.Errorf("build %s: %w", def.name, err)
		}
		if previous != nil && reflect.DeepEqual(previous[i].section, section) {
			instances[i] = previous[i]
			instances[i].users.Add(1)
			continue
		}
		value, err := m.buildOne(ctx, def, section)
		if err != nil {
			m.drop(instances[:i])
			return nil, fmt.Errorf("build %s: %w", def.name, err)
		}
		instances[i] = &instance{name: def.name, section: section, value: value}
		instances[i].users.Add(1)
	}
	return instances, nil
}

// sectionOf is section(config); a panic is an error of the content.
func sectionOf[T any](section func(*T) any, config *T) (s any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = panicError(p)
		}
	}()
	return section(config), nil
}

// buildOne runs one build func. One that does not heed its ctx is abandoned;
// what it returns later is closed.
func (m *Manager[T]) buildOne(ctx context.Context, def resource[T], section any) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, m.options.BuildTimeout)
	type result struct {
		value any
		err   error
	}
	done := make(chan result, 1)
	m.background.Go(func() {
		defer cancel()
		defer func() {
			if p := recover(); p != nil {
				done <- result{err: panicError(p)}
			}
		}()
		value, err := def.build(ctx, section)
		done <- result{value, err}
	})
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
	}
	select {
	case r := <-done: // it did heed its ctx, or has just finished
		if r.err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			r.err = Retryable(fmt.Errorf("took longer than %v: %w", m.options.BuildTimeout, r.err))
		}
		return r.value, r.err
	case <-time.After(abandonAfter):
	}
	m.background.Go(func() {
		if r := <-done; r.err == nil {
			m.closeInstances([]*instance{{name: def.name, value: r.value}})
		}
	})
	return nil, Retryable(fmt.Errorf("took longer than %v and did not stop when told to", m.options.BuildTimeout))
}

// panicError describes a recovered panic by its type: the value could be a
// secret that the code tripped over. Errors of the runtime hold none.
func panicError(p any) error {
	if err, ok := p.(runtime.Error); ok {
		return fmt.Errorf("panicked: %w", err)
	}
	return fmt.Errorf("panicked with a %T", p)
}

// drop gives up a revision's claim on instances and closes those that no other
// revision has. Closing happens in the background.
func (m *Manager[T]) drop(instances []*instance) {
	var unused []*instance
	for _, i := range slices.Backward(instances) {
		if i != nil && i.users.Add(-1) == 0 {
			unused = append(unused, i)
		}
	}
	if len(unused) > 0 {
		m.background.Go(func() { m.closeInstances(unused) })
	}
}

func (m *Manager[T]) closeInstances(instances []*instance) {
	for _, i := range instances {
		if err := i.close(); err != nil {
			m.log.Warn("resource of a retired revision", "error", err)
		}
	}
}
