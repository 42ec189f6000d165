package main

import (
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/embed"
)

// A single member that forgets what a power cut takes: nobody misses the state of a test.
func etcd() *cobra.Command {
	var folder, clients, peers string
	command := &cobra.Command{
		Use:           "etcd",
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(*cobra.Command, []string) error {
			config := embed.NewConfig()
			config.Dir = folder
			config.LogLevel = "warn"
			config.UnsafeNoFsync = true
			client, err := url.Parse(clients)
			if err != nil {
				return err
			}
			peer, err := url.Parse(peers)
			if err != nil {
				return err
			}
			config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{*client}, []url.URL{*client}
			config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
			config.InitialCluster = config.InitialClusterFromName(config.Name)
			member, err := embed.StartEtcd(config)
			if err != nil {
				return err
			}
			defer member.Close()
			stop := make(chan os.Signal, 1)
			signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
			select {
			case err = <-member.Err():
				return err
			case <-stop:
				return nil
			}
		},
	}
	command.Flags().StringVar(&folder, "data", "", "where the state is kept")
	command.Flags().StringVar(&clients, "clients", "http://127.0.0.1:2379", "where the API server asks")
	command.Flags().StringVar(&peers, "peers", "http://127.0.0.1:2380", "where other members would ask")
	return command
}
