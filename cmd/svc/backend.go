package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hotsvc/svc/admin"
	"github.com/hotsvc/svc/configsrc"
	"github.com/hotsvc/svc/reload"
	"github.com/hotsvc/svc/server/keeper"
)

// status is the answer of svc status; see the contract of the command. Fields
// are added, never renamed.
type status struct {
	Healthy     bool                `json:"healthy"`
	Version     string              `json:"version"`
	KeeperPID   int                 `json:"keeper_pid"` // the process that svc run started
	Source      sourceStatus        `json:"source"`
	Revision    string              `json:"revision"`
	Pinned      string              `json:"pinned"`
	Fallback    string              `json:"fallback,omitempty"` // why last good is in force
	Generation  int                 `json:"generation"`
	Last        reload.Entry        `json:"last"`
	Generations []keeper.Generation `json:"generations"`
	Listeners   []string            `json:"listeners"`
	// LastRestart is how the last restart went, for whatever reason it was tried.
	LastRestart *keeper.Restart `json:"last_restart,omitempty"`
	// Trouble says why no generation serves, or which one has died.
	Trouble string `json:"trouble,omitempty"`
}

// add adds what the keeper knows.
func (s *status) add(t keeper.Table) {
	s.Generations, s.LastRestart, s.Trouble = t.Generations, t.LastRestart, t.Trouble
	s.Healthy = slices.ContainsFunc(t.Generations, func(g keeper.Generation) bool {
		return g.State == keeper.StateProbation || g.State == keeper.StateServing
	})
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

// planResult is the answer of svc plan.
type planResult struct {
	reload.Plan
	// Connections are those that a restart would drain, by kind.
	Connections map[string]int `json:"connections"`
}

// backend gives the admin API what it shows and does.
func (s *service) backend() admin.Backend {
	return admin.Backend{
		Status: func() any {
			st := s.manager.Status()
			top := st.Sources[len(st.Sources)-1]
			kept := s.kept()
			shown := status{
				Version: version, KeeperPID: s.worker.KeeperPID(),
				Source:   newSourceStatus(top),
				Revision: st.Revision, Pinned: st.Pinned, Fallback: st.Fallback, Generation: s.worker.Generation(), Last: st.Last,
				Listeners: s.addresses,
			}
			shown.add(kept)
			return shown
		},
		Config:      func() any { return s.manager.Settings() },
		Sources:     func() any { return s.manager.Status().Sources },
		History:     func() any { return s.manager.History() },
		Generations: func() any { return s.kept().Generations },
		Connections: func() any { return s.connectionList() },
		Reload:      func(ctx context.Context) (any, error) { return s.reloadNow(ctx) },
		Restart:     s.restart,
		Refresh:     s.refresh,
		Plan: func(ctx context.Context, name string, document []byte) (any, error) {
			return s.planDocument(ctx, name, document)
		},
		Rollback: func(ctx context.Context, revision string) (any, error) {
			entry, err := s.manager.Rollback(ctx, revision)
			entry, err = s.orSuccessor(ctx, "rollback/"+url.PathEscape(revision), entry, err)
			if errors.Is(err, reload.ErrNoRevision) {
				return nil, &admin.StatusError{Status: http.StatusNotFound, Err: err}
			}
			return entry, err
		},
		Resume: func(ctx context.Context) (any, error) {
			entry, err := s.manager.Resume(ctx)
			return s.orSuccessor(ctx, "resume", entry, err)
		},
	}
}

func (s *service) reloadNow(ctx context.Context) (reload.Entry, error) {
	entry, err := s.manager.Reload(ctx)
	return s.orSuccessor(ctx, "reload", entry, err)
}

// orSuccessor is for what was asked of this generation, and it has handed over
// before it was done. The operator's socket is the successor's by now, or is about
// to be, and whoever asks here may ask there.
func (s *service) orSuccessor(ctx context.Context, endpoint string, entry reload.Entry, err error) (reload.Entry, error) {
	if !errors.Is(err, reload.ErrHandedOver) {
		return entry, err
	}
	client, err := admin.NewClient("unix:"+filepath.Join(s.stateDir, adminSocket), admin.ClientOptions{})
	if err != nil {
		return entry, err
	}
	err = client.Post(ctx, "/api/v1/"+endpoint, nil, nil, &entry)
	var answer *admin.Problem
	switch {
	case errors.As(err, &answer):
		err = &admin.StatusError{Status: answer.Status, Err: answer}
	case err != nil:
		err = &admin.StatusError{Status: http.StatusServiceUnavailable, Err: fmt.Errorf("this generation has handed over, and the next one does not answer: %w", err)}
	}
	return entry, err
}

// refresh answers with the changed keys, or with what they wait for.
func (s *service) refresh(ctx context.Context) ([]string, error) {
	entry, err := s.reloadNow(ctx)
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

// connectionList is the answer of the connections endpoint.
type connectionList struct {
	Counts []connectionClass `json:"counts"`
	// Connections are the oldest ones, at most maxConnections.
	Connections []connection `json:"connections"`
}

// maxConnections is how many are listed one by one.
const maxConnections = 1000

type connectionClass struct {
	Kind  string `json:"kind"`
	State string `json:"state"`
	Count int    `json:"count"`
}

type connection struct {
	Kind     string    `json:"kind"`
	State    string    `json:"state"`
	Listener string    `json:"listener"`
	Peer     string    `json:"peer"`
	Opened   time.Time `json:"opened"` // in this generation or one before
	Since    time.Time `json:"since"`  // when its state began
}

func (s *service) connectionList() connectionList {
	list := connectionList{Counts: []connectionClass{}, Connections: []connection{}}
	for class, n := range s.server.Connections() {
		list.Counts = append(list.Counts, connectionClass{string(class.Kind), string(class.State), n})
	}
	slices.SortFunc(list.Counts, func(a, b connectionClass) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.State, b.State))
	})
	for _, c := range s.server.List(maxConnections) {
		list.Connections = append(list.Connections, connection{
			string(c.Kind), string(c.State), c.Key, c.Peer, c.Opened.UTC(), c.Since.UTC(),
		})
	}
	return list
}
