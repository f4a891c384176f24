package main

import (
	"context"
	"sync"
	"time"

	"github.com/hotsvc/svc/server/certs"
	"github.com/hotsvc/svc/server/keeper"
)

// succession is what a generation tells the next one beside the config: the
// counts, while it drains.
type succession struct {
	service *service
	cancel  context.CancelFunc
	running sync.WaitGroup
}

const (
	// tellTime is how often a draining generation tells what it has counted.
	tellTime = 500 * time.Millisecond
	// keepTime is how often the keys of TLS sessions are left to later generations.
	keepTime = 10 * time.Minute
	// hearTime is how long a new generation waits for the word of the one before
	// until it shows its metrics.
	hearTime = time.Second
)

// ticketsState is the name of the keys of TLS session tickets with the keeper.
const ticketsState = "tickets"

// ticketKeys are those of the generations before, so that clients resume their
// TLS sessions, or new ones.
func (s *service) ticketKeys() *certs.Tickets {
	tickets := certs.NewTickets()
	if data := s.worker.State(ticketsState); data != nil {
		if err := tickets.Unmarshal(data); err != nil {
			s.log.Warn("TLS sessions of the generation before cannot be resumed", "error", err)
		}
	}
	return tickets
}

// keepTickets leaves the keys to the generations after this one. They change once
// a day, so this is done again and again.
func (s *service) keepTickets() {
	data, err := s.tickets.Marshal()
	if err != nil {
		s.log.Warn("TLS sessions cannot be resumed by the next generation", "error", err)
		return
	}
	s.worker.Keep(ticketsState, data)
}

// listen takes in what other generations tell, until ctx ends.
func (s *service) listen(ctx context.Context) {
	again := time.NewTicker(keepTime)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			for { // what has come by then is heard too
				select {
				case r := <-s.worker.Relayed():
					s.hear(r)
				default:
					return
				}
			}
		case r := <-s.worker.Relayed():
			s.hear(r)
		case <-again.C:
			s.keepTickets() // the keeper takes them from the one that serves
		}
	}
}

func (s *service) hear(r keeper.Relayed) {
	if r.Name != countersState {
		return
	}
	if err := s.counters.hear(r); err != nil {
		s.log.Warn("counts of another generation", "error", err)
	}
}

// tell sends the counts.
func (s *service) tell(all, last bool) {
	if !s.worker.Kept() {
		return
	}
	data, err := s.counters.tell(s.worker.Generation(), all, last)
	if err != nil {
		s.log.Warn("counts for the next generation", "error", err)
		return
	}
	s.worker.Send(countersState, data)
}

// begin goes on telling, after before has returned, until end.
func (n *succession) begin(before func()) {
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	n.running.Go(func() {
		before()
		n.service.tell(true, false)
		ticker := time.NewTicker(tellTime)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				n.service.tell(n.service.counters.unsaid(), false)
			}
		}
	})
}

// end waits for what begin has begun. It reports whether anything had.
func (n *succession) end() bool {
	if n.cancel == nil {
		return false
	}
	n.cancel()
	n.running.Wait()
	n.cancel = nil
	return true
}
