"""The presentation of a result: console, pictures, page, MLflow. No stage's output depends on it."""
