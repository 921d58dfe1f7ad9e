"""The process that stays connected to the coordinator and answers its rounds; only here Flower is known."""
