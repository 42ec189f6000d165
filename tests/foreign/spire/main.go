// Serves the SPIFFE Workload API with the handler of SPIRE's agent, from files in place of SPIRE's own server.
//
// Usage: spire SOCKET CHAIN KEY BUNDLE, all in PEM. The files are read anew, and told to all callers, at each line on
// the standard input; at its end the program ends, too.
package main

import (
	"bufio"
	"context"
	"crypto"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/sirupsen/logrus"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/spire/pkg/agent/api/rpccontext"
	"github.com/spiffe/spire/pkg/agent/client"
	handler "github.com/spiffe/spire/pkg/agent/endpoints/workload"
	"github.com/spiffe/spire/pkg/agent/manager/cache"
	"github.com/spiffe/spire/proto/spire/common"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func fail(what string, err error) {
	fmt.Fprintln(os.Stderr, what, err)
	os.Exit(1)
}

// files is what SPIRE's agent would have from its server.
type files struct {
	chain, key, bundle string

	mu          sync.Mutex
	update      *cache.WorkloadUpdate
	subscribers map[*subscriber]struct{}
}

type subscriber struct {
	files   *files
	updates chan *cache.WorkloadUpdate
}

func (s *subscriber) Updates() <-chan *cache.WorkloadUpdate { return s.updates }

func (s *subscriber) Finish() {
	s.files.mu.Lock()
	defer s.files.mu.Unlock()
	delete(s.files.subscribers, s)
}

// tell puts the update where the subscriber finds it, in place of one that it has not taken.
func (s *subscriber) tell(update *cache.WorkloadUpdate) {
	select {
	case <-s.updates:
	default:
	}
	s.updates <- update
}

func (f *files) read() error {
	svid, err := x509svid.Load(f.chain, f.key)
	if err != nil {
		return err
	}
	domain := svid.ID.TrustDomain()
	bundle, err := x509bundle.Load(domain, f.bundle)
	if err != nil {
		return err
	}
	update := &cache.WorkloadUpdate{
		Identities: []cache.Identity{{
			Entry:      &common.RegistrationEntry{SpiffeId: svid.ID.String()},
			SVID:       svid.Certificates,
			PrivateKey: svid.PrivateKey.(crypto.Signer),
		}},
		Bundle: spiffebundle.FromX509Authorities(domain, bundle.X509Authorities()),
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.update = update
	for s := range f.subscribers {
		s.tell(update)
	}
	return nil
}

func (f *files) SubscribeToCacheChanges(context.Context, cache.Selectors) (cache.Subscriber, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := &subscriber{files: f, updates: make(chan *cache.WorkloadUpdate, 1)}
	s.tell(f.update)
	f.subscribers[s] = struct{}{}
	return s, nil
}

func (f *files) MatchingRegistrationEntries([]*common.Selector) []*common.RegistrationEntry {
	return nil
}

func (f *files) FetchJWTSVID(context.Context, *common.RegistrationEntry, []string) (*client.JWTSVID, error) {
	return nil, status.Error(codes.Unimplemented, "no JWT here")
}

func (f *files) FetchWorkloadUpdate([]*common.Selector) *cache.WorkloadUpdate {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.update
}

// Attest finds nothing out: whoever reaches the socket may call.
func (f *files) Attest(context.Context) ([]*common.Selector, error) {
	return []*common.Selector{{Type: "unix", Value: "any"}}, nil
}

// A stream with the logger that the handler looks for.
type logged struct {
	grpc.ServerStream
	context context.Context
}

func (l logged) Context() context.Context { return l.context }

// SPIRE's agent has this check in front of the handler, too.
func checked(service any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	fields, _ := metadata.FromIncomingContext(stream.Context())
	if values := fields.Get("workload.spiffe.io"); len(values) != 1 || values[0] != "true" {
		return status.Error(codes.InvalidArgument, "security header missing from request")
	}
	// The handler asks whether it calls itself; nobody has the number 0.
	context := rpccontext.WithCallerPID(stream.Context(), 0)
	return next(service, logged{stream, rpccontext.WithLogger(context, logrus.StandardLogger())})
}

func main() {
	if len(os.Args) != 5 {
		fail("usage:", fmt.Errorf("spire SOCKET CHAIN KEY BUNDLE"))
	}
	source := &files{chain: os.Args[2], key: os.Args[3], bundle: os.Args[4], subscribers: map[*subscriber]struct{}{}}
	if err := source.read(); err != nil {
		fail("files:", err)
	}
	listener, err := net.Listen("unix", os.Args[1])
	if err != nil {
		fail("listen:", err)
	}
	server := grpc.NewServer(grpc.StreamInterceptor(checked))
	workload.RegisterSpiffeWorkloadAPIServer(server, handler.New(handler.Config{
		Manager: source, Attestor: source,
	}))
	go func() {
		fmt.Println("serving")
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			if err := source.read(); err != nil {
				fail("files:", err)
			}
			fmt.Println("told")
		}
		server.Stop()
	}()
	if err := server.Serve(listener); err != nil {
		fail("serve:", err)
	}
}
