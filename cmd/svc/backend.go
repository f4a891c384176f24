package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hotsvc/svc/admin"
	"github.com/hotsvc/svc/configsrc"
	"github.com/hotsvc/svc/reload"
)

// status is the answer of svc status; see the contract of the command. Fields
// are added, never renamed.
type status struct {
	Healthy     bool         `json:"healthy"`
	Version     string       `json:"version"`
	KeeperPID   int          `json:"keeper_pid"` // the process that svc run started
	Source      sourceStatus `json:"source"`
	Revision    string       `json:"revision"`
	Pinned      string       `json:"pinned"`
	Fallback    string       `json:"fallback,omitempty"` // why last good is in force
	Generation  int          `json:"generation"`
	Last        reload.Entry `json:"last"`
	Generations []generation `json:"generations"`
	Listeners   []string     `json:"listeners"`
}

type sourceStatus struct {
	Name       string     `json:"name"`
	Address    string     `json:"address"`
	Stale      bool       `json:"stale"`
	StaleSince *time.Time `json:"stale_since"` // null while fresh
	Error      string     `json:"error"`
}

func newSourceStatus(s reload.SourceStatus) sourceStatus {
	st := sourceStatus{Name: s.Name, Address: s.Address, Stale: s.Stale, Error: s.Error}
	if s.Stale {
		st.StaleSince = &s.StaleSince
	}
	return st
}

// generation is one worker process. This version has only the first.
type generation struct {
	Number      int            `json:"number"`
	PID         int            `json:"pid"`
	State       string         `json:"state"`
	Since       time.Time      `json:"since"`
	Connections map[string]int `json:"connections"`
}

const (
	stateServing  = "serving"
	stateDraining = "draining"
)

// planResult is the answer of svc plan.
type planResult struct {
	reload.Plan
	// Connections are those that a restart would drain, by kind.
	Connections map[string]int `json:"connections"`
}

// generations are all worker processes: this one.
func (s *service) generations() []generation {
	g := generation{Number: 1, PID: os.Getpid(), State: stateServing, Since: s.since, Connections: s.connections()}
	if s.server.Draining() {
		g.State = stateDraining
	}
	return []generation{g}
}

// generationGauge counts the generations in a state, for the metrics.
func (s *service) generationGauge(state string) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "svc_generations", Help: "Worker processes by state.", ConstLabels: prometheus.Labels{"state": state},
	}, func() float64 {
		n := 0
		for _, g := range s.generations() {
			if g.State == state {
				n++
			}
		}
		return float64(n)
	})
}

// backend gives the admin API what it shows and does.
func (s *service) backend() admin.Backend {
	return admin.Backend{
		Status: func() any {
			st := s.manager.Status()
			top := st.Sources[len(st.Sources)-1]
			g := s.generations()
			return status{
				Healthy: g[0].State == stateServing, Version: version, KeeperPID: os.Getpid(),
				Source:   newSourceStatus(top),
				Revision: st.Revision, Pinned: st.Pinned, Fallback: st.Fallback, Generation: g[0].Number, Last: st.Last,
				Generations: g, Listeners: s.addresses,
			}
		},
		Config:      func() any { return s.manager.Settings() },
		Sources:     func() any { return s.manager.Status().Sources },
		History:     func() any { return s.manager.History() },
		Generations: func() any { return s.generations() },
		Connections: func() any { return s.connectionList() },
		Reload:      func(ctx context.Context) (any, error) { return s.manager.Reload(ctx) },
		Refresh:     s.refresh,
		Plan: func(ctx context.Context, name string, document []byte) (any, error) {
			return s.planDocument(ctx, name, document)
		},
		Rollback: func(ctx context.Context, revision string) (any, error) {
			entry, err := s.manager.Rollback(ctx, revision)
			if errors.Is(err, reload.ErrNoRevision) {
				return nil, &admin.StatusError{Status: http.StatusNotFound, Err: err}
			}
			return entry, err
		},
		Resume: func(ctx context.Context) (any, error) { return s.manager.Resume(ctx) },
	}
}

// refresh answers with the changed keys, or with what they wait for.
func (s *service) refresh(ctx context.Context) ([]string, error) {
	entry, err := s.manager.Reload(ctx)
	if err != nil {
		return nil, err
	}
	code := 0
	switch entry.Outcome {
	case reload.Unchanged:
		return nil, nil
	case reload.Applied, reload.Restarted:
		return entry.Changed, nil
	case reload.Refused:
		code = http.StatusUnprocessableEntity
	case reload.Failed:
		code = http.StatusServiceUnavailable
	case reload.RestartFailed, reload.RestartRequired:
		code = http.StatusConflict
	}
	return nil, &admin.StatusError{Status: code, Err: fmt.Errorf("%s: %s", entry.Outcome, entry.Reason)}
}

func (s *service) planDocument(ctx context.Context, name string, document []byte) (any, error) {
	var values configsrc.Values
	if document != nil {
		var err error
		if values, err = flatten(name, document); err != nil {
			return nil, err
		}
	}
	p, err := s.manager.Plan(values)
	if err != nil {
		return nil, err
	}
	// What is unchanged is not read again: it stays what it is, whatever became
	// of its files.
	if p.Action == reload.ActionRestart || slices.ContainsFunc(p.Changes, func(c reload.Change) bool {
		return strings.HasPrefix(c.Key, serverTLS+".") || strings.HasPrefix(c.Key, adminTLS+".")
	}) {
		if err := check(ctx, s.manager, values); err != nil {
			return nil, err
		}
	}
	result := planResult{Plan: p, Connections: map[string]int{}}
	if p.Action == reload.ActionRestart {
		result.Connections = s.connections()
	}
	return result, nil
}

// connections counts the open connections by kind.
func (s *service) connections() map[string]int {
	byKind := map[string]int{}
	for class, n := range s.server.Connections() {
		if n > 0 {
			byKind[string(class.Kind)] += n
		}
	}
	return byKind
}

// connectionClass is one line of the connections endpoint.
type connectionClass struct {
	Kind  string `json:"kind"`
	State string `json:"state"`
	Count int    `json:"count"`
}

func (s *service) connectionList() []connectionClass {
	list := []connectionClass{}
	for class, n := range s.server.Connections() {
		list = append(list, connectionClass{string(class.Kind), string(class.State), n})
	}
	slices.SortFunc(list, func(a, b connectionClass) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.State, b.State))
	})
	return list
}
