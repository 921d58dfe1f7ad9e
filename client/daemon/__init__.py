"""The process that stays connected to the coordinator and answers its rounds; only this room knows Flower."""
