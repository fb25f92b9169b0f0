"""Runs a DAG in this process with `dag.test()`: run_dag.py FOLDER DAG_ID CONF.

The last line of output is JSON: the run's id, its state, the states of its tasks.
"""

from __future__ import annotations

import json
import sys

from airflow.dag_processing.dagbag import DagBag

dag = DagBag(dag_folder=sys.argv[1]).dags[sys.argv[2]]
run = dag.test(run_conf=json.loads(sys.argv[3]))
states = {instance.task_id: instance.state for instance in run.get_task_instances()}
sys.stdout.write(json.dumps([run.run_id, run.state, states]) + "\n")
