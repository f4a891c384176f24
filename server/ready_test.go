package server

import (
	"testing"
	"time"
)

// To a client of an address that a successor serves, a handover is no reason to
// go elsewhere: a load balancer would at each restart.
func TestReadinessOutlastsAHandover(t *testing.T) {
	inHandover(t, Engine(RouteOptions{}), func(s *handing) {
		const ask = "GET /readyz HTTP/1.1\nHost: x\n\n"
		kept, givenUp := s.dial(s.t, s.kept), s.dial(s.t, s.givenUp)
		for _, c := range []*raw{kept, givenUp} {
			c.send(s.t, ask)
			c.receive(s.t)
		}
		s.handOver(10 * time.Second)
		kept.send(s.t, ask)
		if a := kept.receive(s.t); a.StatusCode != 200 {
			s.t.Errorf("where a successor serves: %s", a.Status)
		}
		givenUp.send(s.t, ask)
		if a := givenUp.receive(s.t); a.StatusCode != 503 {
			s.t.Errorf("where none does: %s", a.Status)
		}
		s.Settle()
		if err := s.wait(s.t); err != nil {
			s.t.Error(err)
		}
	})
}
