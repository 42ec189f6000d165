// Fetches from a Workload API socket, tells of each update, and calls a server by mutual TLS.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

func fail(what string, err error) {
	fmt.Fprintln(os.Stderr, what, err)
	os.Exit(1)
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	source, err := workloadapi.NewX509Source(ctx)
	if err != nil {
		fail("source:", err)
	}
	defer source.Close()
	svid, err := source.GetX509SVID()
	if err != nil {
		fail("svid:", err)
	}
	fmt.Println("svid", svid.ID, svid.Certificates[0].SerialNumber.Text(16))
	bundle, err := source.GetX509BundleForTrustDomain(svid.ID.TrustDomain())
	if err != nil {
		fail("bundle:", err)
	}
	fmt.Println("bundle", bundle.TrustDomain(), len(bundle.X509Authorities()))
	bundles, err := workloadapi.FetchX509Bundles(ctx)
	if err != nil {
		fail("bundles:", err)
	}
	fmt.Println("bundles", len(bundles.Bundles()))
	call := func(word, heard string) {
		peer := spiffeid.RequireFromString(os.Args[2])
		conn, err := spiffetls.DialWithMode(ctx, "tcp", os.Args[1],
			spiffetls.MTLSClientWithSource(tlsconfig.AuthorizeID(peer), source))
		if err != nil {
			fail("dial:", err)
		}
		if _, err := conn.Write([]byte(word)); err != nil {
			fail("write:", err)
		}
		answer := make([]byte, 7)
		if _, err := io.ReadFull(conn, answer); err != nil {
			fail("read:", err)
		}
		fmt.Println(heard, string(answer))
		conn.Close()
	}
	call("from go", "answer")
	before := svid.Certificates[0].SerialNumber
	for {
		if err := source.WaitUntilUpdated(ctx); err != nil {
			fail("update:", err)
		}
		svid, err := source.GetX509SVID()
		if err != nil {
			fail("svid:", err)
		}
		if svid.Certificates[0].SerialNumber.Cmp(before) != 0 {
			fmt.Println("rotated", svid.Certificates[0].SerialNumber.Text(16))
			// The new certificate opens the next connection.
			call("again..", "again")
			return
		}
	}
}
